from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.doctor.judged import by_check, levels
from vllmd.doctor.host import Clock, HostFacts, Limits, Memory, SharedMemory, judge

GIB = 1 << 30
GOOD = HostFacts(
    shared=SharedMemory(total_bytes=64 * GIB, free_bytes=63 * GIB, writable=True),
    limits=Limits(
        whose="the daemon's", files=65536, files_hard=524288, locked_bytes=8 << 20, processes=None, pids_max=None,
        rdma=False,
    ),
    memory=Memory(
        total_bytes=256 * GIB, available_bytes=200 * GIB, swap_bytes=8 * GIB, swapped_bytes=0, whose="the daemon's",
        oom_score_adj=-500, huge_pages="madvise",
    ),
    clock=Clock(seconds=1.8e9, synchronized=True, jumped_seconds=0.0),
    gpus=2,
)  # fmt: skip


def with_(part: str, **changes: Any) -> HostFacts:
    """The good host, but for something of one part."""
    return dataclasses.replace(GOOD, **{part: dataclasses.replace(getattr(GOOD, part), **changes)})


def test_a_host_in_order() -> None:
    """Every line says what there is, and whose it is."""
    found = by_check(judge(GOOD))

    assert {str(one.level) for one in found.values()} == {"ok"}
    assert found["nofile"].found == "65536 (the daemon's)"
    assert found["nproc"].found == "unlimited (the daemon's)"


@pytest.mark.parametrize(
    ("part", "changes", "check", "level"),
    [
        ("shared", {"total_bytes": 64 << 20, "free_bytes": 64 << 20}, "/dev/shm", "fail"),
        ("shared", {"free_bytes": GIB // 2}, "/dev/shm", "warn"),
        ("shared", {"writable": False}, "/dev/shm", "fail"),
        ("limits", {"files": 1024}, "nofile", "warn"),
        ("limits", {"files": 256}, "nofile", "fail"),
        ("limits", {"files": None}, "nofile", "ok"),
        ("limits", {"rdma": True}, "memlock", "warn"),
        ("limits", {"rdma": True, "locked_bytes": None}, "memlock", "ok"),
        ("limits", {"processes": 1024}, "nproc", "warn"),
        ("limits", {"processes": 96365, "pids_max": 512}, "nproc", "warn"),
        ("memory", {"available_bytes": GIB}, "memory", "warn"),
        ("memory", {"swapped_bytes": 100 * GIB, "swap_bytes": 128 * GIB}, "swap", "warn"),
        ("memory", {"swap_bytes": 0}, "swap", "ok"),
        ("memory", {"oom_score_adj": 200}, "oom score", "warn"),
        ("memory", {"oom_score_adj": None}, "oom score", "unknown"),
        ("clock", {"synchronized": False}, "clock", "warn"),
        ("clock", {"synchronized": None}, "clock", "unknown"),
        ("clock", {"jumped_seconds": -3.2}, "clock", "warn"),
        ("clock", {"seconds": 0.0}, "clock", "fail"),
    ],
)
def test_what_could_be_otherwise(part: str, changes: dict[str, Any], check: str, level: str) -> None:
    """One thing is wrong, and one line says so."""
    found = levels(judge(with_(part, **changes)))

    assert found.pop(check) == level
    assert set(found.values()) == {"ok"}


def test_little_shared_memory_is_enough_for_one_gpu() -> None:
    """Docker's 64 MiB break engines on several GPUs, and are a warning for those on one."""
    tiny = with_("shared", total_bytes=64 << 20, free_bytes=64 << 20)

    assert levels(judge(dataclasses.replace(tiny, gpus=1)))["/dev/shm"] == "warn"
    assert levels(judge(dataclasses.replace(tiny, gpus=None)))["/dev/shm"] == "warn"


def test_what_is_not_there() -> None:
    """Without shared memory vLLM can't run; without /proc/meminfo nothing is known of memory."""
    found = levels(judge(dataclasses.replace(GOOD, shared=None, memory=None)))

    assert found["/dev/shm"] == "fail"
    assert found["memory"] == "unknown"


def test_a_hard_limit_bounds_what_is_advised() -> None:
    """`ulimit -n 65536` would be refused beyond it."""
    assert "`ulimit -n 4096`" in by_check(judge(with_("limits", files=1024, files_hard=4096)))["nofile"].todo
