from __future__ import annotations

from typing import Any

import pytest

from vllmd.planner.choice import gib, parts, whole_number


@pytest.mark.parametrize(("value", "number"), [(3, 3), (0, None), (-1, None), (True, None), ("3", None), (None, None)])
def test_only_a_positive_whole_number_is_one(value: Any, number: int | None) -> None:
    """A client may have set anything."""
    assert whole_number(value) == number


def test_bytes_for_people() -> None:
    """In the unit of memory."""
    assert gib(1.5 * (1 << 30)) == "1.5 GiB"


@pytest.mark.parametrize(("whole", "part", "number"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2)])
def test_what_does_not_divide_evenly_is_a_part_more(whole: int, part: int, number: int) -> None:
    """Of tokens into blocks, and of layers into stages."""
    assert parts(whole, part) == number
