from __future__ import annotations

import dataclasses

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.gpu.inventory import Gpu, GpuProcess
from vllmd.watchdog.leaks import LEAST_BYTES, Leaks, News


def used(size: int, *processes: GpuProcess) -> Gpu:
    return dataclasses.replace(gpu(used=size), processes=processes)


def test_memory_of_nobody_is_a_leak_after_a_while() -> None:
    """Told once when it has stood, and once when it is over."""
    leaks = Leaks()
    leaks.observe([used(GIB)], (), 0.0)

    told = [leaks.observe([used(3 * GIB)], (), now) for now in (1.0, 5.0, 11.0, 12.0)]
    ended = [leaks.observe([used(GIB)], (), now) for now in (13.0, 14.0)]

    assert told == [[], [], [News("GPU-0", 2 * GIB, ended=False)], []]
    assert ended == [[News("GPU-0", 0, ended=True)], []]


def test_memory_of_somebody_is_none() -> None:
    """What processes hold, and what the driver has always held, does not count; nor does a little more."""
    leaks = Leaks()
    leaks.observe([used(GIB)], (), 0.0)

    for now in (1.0, 20.0):
        assert leaks.observe([used(41 * GIB, GpuProcess(7, 40 * GIB))], (), now) == []
        assert leaks.observe([used(GIB + LEAST_BYTES)], (), now) == []


def test_while_something_loads_or_ends_nothing_is_told() -> None:
    """Then memory is rightly between two owners; the time counts from when that is over."""
    leaks = Leaks()
    leaks.observe([used(0)], (), 0.0)
    for now in (1.0, 20.0):
        assert leaks.observe([used(GIB)], {"GPU-0"}, now) == []

    assert leaks.observe([used(GIB)], (), 21.0) == []
    assert leaks.observe([used(GIB)], (), 31.0) == [News("GPU-0", GIB, ended=False)]


def test_where_nvml_does_not_say_who_holds_what_nothing_follows() -> None:
    """As inside most containers."""
    leaks = Leaks()
    leaks.observe([used(0)], (), 0.0)

    assert leaks.observe([used(GIB, GpuProcess(7, None))], (), 1.0) == []
    assert leaks.observe([used(GIB, GpuProcess(7, None))], (), 20.0) == []


def test_a_floor_that_was_too_high_mends_itself() -> None:
    """The first look may come while memory is leaked already."""
    leaks = Leaks()
    leaks.observe([used(3 * GIB)], (), 0.0)
    leaks.observe([used(0)], (), 1.0)

    assert leaks.observe([used(3 * GIB)], (), 2.0) == []
    assert leaks.observe([used(3 * GIB)], (), 12.0) == [News("GPU-0", 3 * GIB, ended=False)]


def test_an_engine_that_grows_is_told_after_a_while() -> None:
    """With how much; one that was never weighed is not, and one that has gone is forgotten."""
    leaks = Leaks()
    due = {"a": {"GPU-0": 10 * GIB}}

    def hold(size: int, now: float) -> list[News]:
        return leaks.compare({"a": {"GPU-0": size, "GPU-1": GIB}, "new": {"GPU-0": GIB}}, lambda e: due.get(e, {}), now)

    told = [hold(13 * GIB, now) for now in (1.0, 5.0, 11.0, 12.0)]
    ended = hold(10 * GIB, 13.0)

    assert told == [[], [], [News("GPU-0", 3 * GIB, ended=False, engine="a")], []]
    assert ended == [News("GPU-0", 0, ended=True, engine="a")]
    assert told[2][0].message == "The engine holds 3.00 GiB more of GPU GPU-0 than when it was loaded."
    hold(13 * GIB, 14.0)
    leaks.compare({}, lambda e: due.get(e, {}), 20.0)
    assert hold(13 * GIB, 25.0) == []
