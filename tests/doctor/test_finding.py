from __future__ import annotations

import pytest

from vllmd.doctor.finding import counted, fail, healthy, ok, size, unknown, warn


def test_only_a_failure_is_unhealthy() -> None:
    """What could be better, or can't be seen, keeps nobody from running engines."""
    fine = [ok("a", "x"), warn("b", "x", "do"), unknown("c", "x")]

    assert healthy(fine)
    assert not healthy([*fine, fail("d", "x", "do")])


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 MiB"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB"), (2 << 40, "2,048.0 GiB")]
)
def test_sizes_for_people(size_bytes: int, text: str) -> None:
    """In the unit in which people think of them."""
    assert size(size_bytes) == text


def test_counts_for_people() -> None:
    """One is one."""
    assert [counted(number, "GPU") for number in (0, 1, 2)] == ["0 GPUs", "1 GPU", "2 GPUs"]
