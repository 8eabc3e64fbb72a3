from __future__ import annotations

import pytest

from vllmd.configuration.problems import ConfigurationError, Problem, nearest


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("/etc/x.toml:3", "idle", "is wrong"), "/etc/x.toml:3: idle: is wrong"),
        (Problem("/etc/x.toml", "", "can't be read"), "/etc/x.toml: can't be read"),
        (Problem("$VLLMD_IDLE", "idle", "is wrong"), "$VLLMD_IDLE: is wrong"),
        (Problem("--idle", "idle", "is wrong"), "--idle: is wrong"),
    ],
)
def test_a_problem_is_a_line_as_compilers_write_them(problem: Problem, line: str) -> None:
    """Editors jump to it; a variable and a flag name the setting themselves."""
    assert str(problem) == line


def test_an_error_has_all_problems() -> None:
    """Who mends the first should not have to come back for the second."""
    error = ConfigurationError([Problem("a:1", "x", "is wrong"), Problem("b:2", "y", "too")])

    assert str(error) == "a:1: x: is wrong; b:2: y: too"


def test_the_nearest_name_is_one_that_is_near() -> None:
    """However it is spelt; and none where none is."""
    known = ["idle_timeout", "load_timeout", "listen"]

    assert nearest("Idle-Timout", known) == "idle_timeout"
    assert nearest("colour", known) is None
