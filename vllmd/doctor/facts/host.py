"""Reads what the host gives its processes: /dev/shm, limits, main memory, and what the kernel knows of the clock."""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import struct
import time
from collections.abc import Mapping

import psutil

from vllmd.doctor.host import Bound, Clock, HostFacts, Limits, Memory, SharedMemory
from vllmd.engines.containment import own_cgroup

_PROC = pathlib.Path("/proc")
_SHARED_MEMORY = pathlib.Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
_HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_RDMA = pathlib.Path("/sys/class/infiniband")
_STA_UNSYNC = 0x40
# struct timex: modes (0 only asks) and padding, four longs, then status; the whole is 208 bytes on 64 bits.
_TIMEX_BYTES, _STATUS_OFFSET = 256, 8 + 4 * struct.calcsize("l")

Offset = float
"""The time of day less the monotonic clock, in seconds: it moves only when somebody sets the former."""


def offset() -> Offset:
    """Read how far the two clocks are apart now."""
    return time.time() - time.monotonic()


def look(daemon_pid: int | None, gpus: int | None, earlier: Offset) -> HostFacts:
    """Read all of it: the limits of the daemon if it runs, else our own.

    Args:
        daemon_pid: the daemon's, if one runs.
        gpus: how many there are; `None` if that is unknown.
        earlier: the clocks' offset when the doctor began.
    """
    pid, whose = (str(daemon_pid), "the daemon's") if daemon_pid is not None else ("self", "this process's")
    return HostFacts(
        shared=shared_memory(_SHARED_MEMORY),
        limits=limits(_PROC / pid / "limits", whose) or _own_limits(),
        memory=memory(_PROC / pid / "oom_score_adj", whose),
        clock=Clock(seconds=time.time(), synchronized=synchronized(), jumped_seconds=offset() - earlier),
        gpus=gpus,
    )


def shared_memory(directory: pathlib.Path) -> SharedMemory | None:
    """Look at the file system of shared memory; `None` if there is none."""
    try:
        system = os.statvfs(directory)
    except OSError:
        return None
    total, free = system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize
    return SharedMemory(total_bytes=total, free_bytes=free, writable=os.access(directory, os.W_OK | os.X_OK))


def limits(path: pathlib.Path, whose: str) -> Limits | None:
    """Read `/proc/PID/limits`; `None` if the process is gone."""
    try:
        table = parse_limits(path.read_text())
    except OSError:
        return None
    return Limits(
        whose=whose,
        files=table["Max open files"][0],
        files_hard=table["Max open files"][1],
        locked_bytes=table["Max locked memory"][0],
        processes=table["Max processes"][0],
        pids_max=pids_max(own_cgroup()),
        rdma=_RDMA.is_dir() and any(_RDMA.iterdir()),
    )


def parse_limits(text: str) -> Mapping[str, tuple[Bound, Bound]]:
    """Read soft and hard limits by the kernel's names."""
    found = re.findall(r"^(Max [a-z ]+?)\s{2,}(\d+|unlimited)\s+(\d+|unlimited)", text, re.MULTILINE)
    return {name: (_bound(soft), _bound(hard)) for name, soft, hard in found}


def pids_max(cgroup: pathlib.Path | None) -> Bound:
    """Find the smallest number of tasks that a cgroup, or one above it, may have; `None` if none says."""
    found = []
    for one in (cgroup, *cgroup.parents) if cgroup is not None else ():
        try:
            text = (one / "pids.max").read_text().strip()
        except OSError:
            continue  # the root of all has none, and neither has one without the controller
        if text != "max":
            found.append(int(text))
    return min(found, default=None)


def memory(oom_score_adj: pathlib.Path, whose: str) -> Memory | None:
    """Read main memory, swap, and how readily the kernel kills a process."""
    try:
        main, swap = psutil.virtual_memory(), psutil.swap_memory()
    except (OSError, RuntimeError):
        return None  # a /proc without meminfo or vmstat
    return Memory(
        total_bytes=main.total,
        available_bytes=main.available,
        swap_bytes=swap.total,
        swapped_bytes=swap.used,
        whose=whose,
        oom_score_adj=_number(oom_score_adj),
        huge_pages=huge_pages(_HUGE_PAGES),
    )


def huge_pages(path: pathlib.Path) -> str | None:
    """Tell when memory gets huge pages by itself; `None` where the kernel has none."""
    try:
        chosen = re.search(r"\[(\w+)\]", path.read_text())
    except OSError:
        return None
    return chosen[1] if chosen else None


def synchronized() -> bool | None:
    """Ask the kernel whether somebody keeps its clock, as all who do tell it; `None` if it does not say."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    if libc.adjtimex(timex) < 0:
        return None
    status = struct.unpack_from("i", timex.raw, _STATUS_OFFSET)[0]
    return not status & _STA_UNSYNC


def _own_limits() -> Limits:
    found = limits(_PROC / "self/limits", "this process's")
    assert found is not None
    return found


def _number(path: pathlib.Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _bound(text: str) -> Bound:
    return None if text == "unlimited" else int(text)
