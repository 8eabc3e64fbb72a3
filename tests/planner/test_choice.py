from __future__ import annotations

from typing import Any

import pytest

from vllmd.planner.choice import gib, whole_number


@pytest.mark.parametrize(("value", "number"), [(3, 3), (0, None), (-1, None), (True, None), ("3", None), (None, None)])
def test_only_a_positive_whole_number_is_one(value: Any, number: int | None) -> None:
    """A client may have set anything."""
    assert whole_number(value) == number


def test_bytes_for_people() -> None:
    """In the unit of memory."""
    assert gib(1.5 * (1 << 30)) == "1.5 GiB"
