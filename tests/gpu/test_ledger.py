from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.gpu.inventory import Gpu, GpuProcess
from vllmd.gpu.ledger import TOLERANCE_BYTES, Expectation, Ledger, excess_bytes, is_back, not_back

DEAD = frozenset({100, 101})
FLOOR = Expectation("GPU-0", GIB)
SHARED = Expectation("GPU-0", GIB, neighbours_bytes=4 * GIB)


def held(used: int, *processes: tuple[int, int | None]) -> Gpu:
    """A GPU with so much in use, and what NVML says of who has it."""
    return dataclasses.replace(gpu(used=used), processes=tuple(GpuProcess(*process) for process in processes))


@pytest.mark.parametrize(
    ("now", "expected", "back"),
    [
        # What the dead had is gone, and the driver's bookkeeping moved a little.
        (held(GIB + TOLERANCE_BYTES), FLOOR, True),
        (held(GIB + TOLERANCE_BYTES + 1), FLOOR, False),
        # One of them is still in the driver's list, whatever it says of its memory.
        (held(GIB, (100, 0)), FLOOR, False),
        (held(GIB, (100, None)), FLOOR, False),
        # A neighbour grew or came: its memory is its own affair.
        (held(9 * GIB, (7, 8 * GIB)), FLOOR, True),
        # A neighbour went while memory that nobody accounts for is still there: totals would look fine.
        (held(5 * GIB), FLOOR, False),
        # Without shares only the totals are left to go by, with what our own neighbours hold.
        (held(5 * GIB, (7, None)), SHARED, True),
        (held(5 * GIB, (7, None)), FLOOR, False),
        (held(2 * GIB, (7, None)), SHARED, True),
    ],
)
def test_memory_is_back_when_nobody_unknown_has_it(now: Gpu, expected: Expectation, back: bool) -> None:
    """Neighbours are told apart from what the dead may have left, as well as NVML lets us."""
    assert is_back(now, expected, DEAD) is back


def test_the_floor_is_the_lowest_that_was_seen() -> None:
    """Somebody else's dead process that was still listed at the first look does not hide a leak for ever."""
    ledger = Ledger()
    for used in (3 * GIB, GIB, 2 * GIB):
        ledger.observe(held(used + 5 * GIB, (7, 5 * GIB)))

    assert ledger.expectation(held(9 * GIB)) == Expectation("GPU-0", GIB)


def test_without_shares_the_floor_is_what_our_engines_do_not_hold() -> None:
    """In a container NVML hides who has what, but not what each of our engines took when it was loaded."""
    ledger = Ledger()
    ledger.enter("a", {"GPU-0": 4 * GIB})
    ledger.enter("b", {"GPU-0": 2 * GIB})
    ledger.observe(held(7 * GIB, (7, None)))

    assert ledger.expectation(held(0), without="b") == Expectation("GPU-0", GIB, 4 * GIB)
    ledger.strike("a")
    assert ledger.expectation(held(0)) == Expectation("GPU-0", GIB, 2 * GIB)
    assert ledger.holding("b") == {"GPU-0": 2 * GIB}
    assert ledger.holding("a") == {}


def test_a_gpu_that_was_never_quiet_is_taken_as_it_is() -> None:
    """And what an earlier daemon knew of it counts, as for any other look."""
    ledger = Ledger()
    first = ledger.expectation(held(3 * GIB, (7, GIB)))
    ledger.remember(Expectation("GPU-0", GIB))
    ledger.remember(Expectation("GPU-0", 2 * GIB))

    assert first == Expectation("GPU-0", 2 * GIB)
    assert ledger.expectation(held(3 * GIB)) == Expectation("GPU-0", GIB)


@given(
    st.integers(0, 10),
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 10)), max_size=4, unique_by=lambda p: p[0]),
)
def test_the_excess_is_what_was_added(extra: int, shares: list[tuple[int, int]]) -> None:
    """Whoever else is on the GPU, and however much they hold."""
    known = sum(share for _, share in shares) * GIB
    now = held(GIB + known + extra * GIB, *((pid, share * GIB) for pid, share in shares))

    assert excess_bytes(now, FLOOR) == extra * GIB


def test_a_gpu_that_fell_off_the_bus_has_nothing_back() -> None:
    """Its absence proves nothing."""
    expected = (Expectation("GPU-0", 0),)

    assert not_back([gpu(0)], expected, frozenset({5})) == ()
    assert not_back([gpu(1)], expected, frozenset({5})) == expected
    assert not_back([gpu(0, used=GIB)], expected, frozenset()) == expected
