from __future__ import annotations

import pytest
import typer

from vllmd.cli.options.numbers import INT32, within


@pytest.mark.parametrize("value", [None, 0, INT32, -INT32, [], [1, INT32]])
def test_what_can_be_sent(value: int | list[int] | None) -> None:
    """It stays as it is."""
    assert within(INT32)(value) == value


@pytest.mark.parametrize("value", [INT32 + 1, -INT32 - 1, [0, INT32 + 1]])
def test_what_can_not_be_sent(value: int | list[int]) -> None:
    """It is misuse, and the range is told."""
    with pytest.raises(typer.BadParameter, match="is not from -2147483647 to 2147483647"):
        within(INT32)(value)
