from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from vllmd.cli.output.argument_table import print_arguments, setting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (8192.0, "8192"),
        (0.87, "0.87"),
        ("fp8", "fp8"),
        (None, "null"),
        ([1, 2], "[1, 2]"),
        ("\x1b[31mred", "red"),
    ],
)
def test_values_are_written_as_set_reads_them(value: Any, text: str) -> None:
    """Whole numbers have no point, and a text no quotes; nothing commands the terminal."""
    assert setting(value) == text


def test_each_argument_has_its_source_and_reason() -> None:
    """In columns with a heading each."""
    console = Console(file=io.StringIO(), width=100)
    print_arguments(console, [("max_model_len", 8192, "use case", "as it has it"), ("dtype", "half", "client", "set")])
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]

    assert lines == ["NAME VALUE SET BY WHY", "max_model_len 8192 use case as it has it", "dtype half client set"]


def test_on_a_narrow_terminal_names_stay_whole() -> None:
    """They are to be copied; reasons are wrapped instead."""
    console = Console(file=io.StringIO(), width=60)
    reason = "GeForce boards do not reach each other's memory reliably"
    print_arguments(console, [("disable_custom_all_reduce", True, "hardware", reason)])
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()

    assert any(line.startswith("disable_custom_all_reduce  true") for line in lines)
    assert max(map(len, lines)) <= 60
