from __future__ import annotations

import dataclasses

import pytest

from tests.fakes.fake_gpus import gpu
from vllmd.gpu.inventory import Gpu, GpuProcess, Inventory, fuller


@pytest.mark.parametrize(
    ("shares", "unaccounted"), [((), 500), ((100, 300), 100), ((100, None), None), ((None,), None)]
)
def test_memory_that_no_process_is_said_to_hold(shares: tuple[int | None, ...], unaccounted: int | None) -> None:
    """It is what is left of the used memory; with a process whose share is unknown nobody can tell."""
    processes = tuple(GpuProcess(pid, share) for pid, share in enumerate(shares, 1))

    assert Gpu("GPU-0", 0, "H200", 1000, 500, 500, processes=processes).unaccounted_bytes == unaccounted


def test_a_slice_is_of_a_whole() -> None:
    """Which a whole GPU is itself."""
    assert gpu(3).whole == "GPU-3"
    assert dataclasses.replace(gpu(3), uuid="MIG-1", mig_parent="GPU-3").whole == "GPU-3"


def test_gpus_are_picked_by_uuid() -> None:
    """Those that have fallen off the bus since are missing from the answer."""
    first, second = gpu(0), gpu(1)

    assert Inventory((first, second)).named(frozenset({"GPU-1", "GPU-7"})) == (second,)
    assert Inventory().named(frozenset({"GPU-1"})) == ()


@pytest.mark.parametrize(
    ("processes", "held"),
    [
        (((1, 10), (2, 20), (3, 40)), 30),
        (((1, 10), (3, 40)), 10),
        # Of whom the driver says nothing, or not enough, the caller knows better.
        (((1, 10), (2, None)), 7),
        (((3, 40),), 7),
    ],
)
def test_what_some_processes_hold(processes: tuple[tuple[int, int | None], ...], held: int) -> None:
    """Theirs alone, or what the caller says where the driver does not."""
    one = dataclasses.replace(gpu(), processes=tuple(GpuProcess(*process) for process in processes))

    assert one.held_by({1, 2}, otherwise=7) == held


def test_the_fuller_of_two_looks_counts() -> None:
    """GPU by GPU; one that was not there before is as it is."""
    earlier = (gpu(0, used=30), gpu(1, used=10))
    now = (gpu(0, used=20), gpu(1, used=15), gpu(2, used=5))

    assert [look.used_bytes for look in fuller(earlier, now)] == [30, 15, 5]
