from __future__ import annotations

import os
import resource
from pathlib import Path

from vllmd.doctor.facts import host

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max processes             96365                96365                processes 
Max open files            1024                 524288               files     
Max locked memory         8388608              unlimited            bytes     
"""  # noqa: W291 - as the kernel writes it


def test_limits_as_the_kernel_writes_them() -> None:
    """Soft and hard, where unlimited is no number."""
    found = host.parse_limits(LIMITS)

    assert found["Max open files"] == (1024, 524288)
    assert found["Max locked memory"] == (8 << 20, None)
    assert found["Max cpu time"] == (None, None)


def test_our_own_limits() -> None:
    """They are what the C library says of us."""
    facts = host.look(None, 0, host.offset())

    assert facts.limits.files == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert facts.limits.whose == "this process's"


def test_the_daemons_limits() -> None:
    """Those of a process that runs; of one that has just ended our own are told in their place, as such."""
    gone = 2**22 + 1

    assert host.look(os.getpid(), 0, host.offset()).limits.whose == "the daemon's"
    assert host.look(gone, 0, host.offset()).limits.whose == "this process's"


def test_the_smallest_bound_of_all_cgroups_counts(tmp_path: Path) -> None:
    """A container's own is above ours; `max` is none."""
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    (inner / "pids.max").write_text("max\n")
    assert host.pids_max(inner) is None

    (tmp_path / "a/pids.max").write_text("512\n")
    (tmp_path / "pids.max").write_text("1024\n")
    assert host.pids_max(inner) == 512
    assert host.pids_max(None) is None


def test_shared_memory(tmp_path: Path) -> None:
    """What its file system has; `None` where there is none."""
    found = host.shared_memory(tmp_path)

    assert found is not None
    assert found.writable
    assert 0 < found.free_bytes <= found.total_bytes
    assert host.shared_memory(tmp_path / "absent") is None


def test_memory_and_who_is_killed_first(tmp_path: Path) -> None:
    """The score of a process that can't be read is unknown."""
    score = tmp_path / "oom_score_adj"
    score.write_text("-500\n")
    known, unknown = host.memory(score, "x"), host.memory(tmp_path / "absent", "x")

    assert known is not None
    assert known.oom_score_adj == -500
    assert 0 < known.available_bytes <= known.total_bytes
    assert unknown is not None
    assert unknown.oom_score_adj is None


def test_huge_pages(tmp_path: Path) -> None:
    """The chosen one is in brackets."""
    (tmp_path / "enabled").write_text("always [madvise] never\n")

    assert host.huge_pages(tmp_path / "enabled") == "madvise"
    assert host.huge_pages(tmp_path / "absent") is None


def test_a_clock_that_moved() -> None:
    """It is seen by how far the two clocks are apart now, and were when the doctor began."""
    steady = host.look(None, 0, host.offset()).clock
    stepped = host.look(None, 0, host.offset() - 5).clock

    assert abs(steady.jumped_seconds) < 0.1
    assert 4.9 < stepped.jumped_seconds < 5.1
    assert steady.synchronized in (True, False, None)
