"""Whole numbers that a message can carry."""

from __future__ import annotations

from collections.abc import Callable

import typer

INT32 = 2**31 - 1
INT64 = 2**63 - 1

_Whole = int | list[int] | None


def within(most: int) -> Callable[[_Whole], _Whole]:
    """Make what refuses numbers over *most*, and under its negative, as misuse.

    typer's own `min` and `max` would write the range into the help, for every option.
    """

    def check(value: _Whole) -> _Whole:
        for number in value if isinstance(value, list) else [value]:
            if number is not None and abs(number) > most:
                raise typer.BadParameter(f"{number} is not from {-most} to {most}")
        return value

    return check
