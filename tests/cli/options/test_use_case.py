from __future__ import annotations

from typing import get_args

from vllmd.cli.options.use_case import Name, UseCase
from vllmd.planner.use_cases import USE_CASES


def test_the_names_are_the_planners() -> None:
    """In its order; the command line is too quick to import the planner for them."""
    assert [str(name) for name in Name] == list(USE_CASES)


def test_the_help_explains_each_of_them() -> None:
    """Who asks for help need not look elsewhere."""
    option = get_args(UseCase)[1]

    assert all(f"`{name}`: " in option.help for name in USE_CASES)
