"""Engine arguments as a table: each with its value, who set it, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vllmd.cli import terminal

if TYPE_CHECKING:
    from rich.console import Console

Row = tuple[str, Any, str, str]
"""Name, value, source and reason."""


def print_arguments(console: Console, rows: Iterable[Row]) -> None:
    """Print the table."""
    table = terminal.table("NAME", "VALUE", "SET BY", "WHY")
    table.columns[0].no_wrap = True  # a name is to be copied; the reasons can be as narrow as need be
    for name, value, source, reason in rows:
        table.add_row(name, setting(value), source, terminal.printable(reason))
    console.print(table)


def setting(value: Any) -> str:
    """Write a value as `--set` reads it; protobuf has only doubles, and most of vLLM's numbers are whole."""
    if isinstance(value, str):
        return terminal.printable(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)
