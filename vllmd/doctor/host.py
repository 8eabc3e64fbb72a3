"""Judges what a host gives its processes: shared memory, limits, main memory and the clock. Pure."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator

from vllmd.doctor.finding import Finding, fail, ok, size, unknown, warn

_GIB = 1 << 30
_SHM = "/dev/shm"  # noqa: S108 - its name
_LITTLE_SHARED = _GIB
_TINY_SHARED = 64 << 20
"""Docker's default: with it several workers of one engine end in SIGBUS."""
_FEW_FILES = 8192
_TOO_FEW_FILES = 512
_MANY_FILES = 65536
_FEW_TASKS = 4096
"""A worker has some hundred threads, more on hosts with many cores."""
_RDMA_LOCKED = _GIB
_LITTLE_AVAILABLE = 4 * _GIB
"""An engine without a model took 3 GB."""
_MUCH_SWAPPED = 0.1
_JUMP_SECONDS = 0.1
_EARLIEST = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC).timestamp()
"""No clock that was ever set shows an earlier time than this program's."""

Bound = int | None
"""`None` for as many as there are."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SharedMemory:
    """The file system under /dev/shm."""

    total_bytes: int
    free_bytes: int
    writable: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Those of the daemon if it runs and lets us look, else our own."""

    whose: str
    files: Bound
    files_hard: Bound
    locked_bytes: Bound
    processes: Bound
    pids_max: Bound
    """The smallest of our cgroups; `None` also where none is readable."""
    rdma: bool
    """Whether there is a device that registers memory, such as InfiniBand's."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Main memory, and who is killed first when there is none."""

    total_bytes: int
    available_bytes: int
    swap_bytes: int
    swapped_bytes: int
    whose: str
    oom_score_adj: int | None
    huge_pages: str | None
    """`always`, `madvise` or `never`; `None` where the kernel has none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The time of day."""

    seconds: float
    """Since the epoch."""
    synchronized: bool | None
    """As the kernel was told by whoever keeps it; `None` if it does not say."""
    jumped_seconds: float
    """How far it moved against the monotonic clock while the doctor looked."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """All of it; what can't be read is `None`."""

    shared: SharedMemory | None
    limits: Limits
    memory: Memory | None
    clock: Clock
    gpus: int | None


def judge(facts: HostFacts) -> Iterator[Finding]:
    """Say how each stands."""
    yield _shared(facts)
    yield from _limits(facts.limits)
    yield from _memory(facts.memory)
    yield _clock(facts.clock)


def _shared(facts: HostFacts) -> Finding:
    shared, todo = facts.shared, "Give it more: `docker run --shm-size 16g` or --ipc host; `mount -o remount,size=`."
    if shared is None:
        return fail(_SHM, "is not there, and vLLM's processes talk through it", "Mount a tmpfs there.")
    found = f"{size(shared.free_bytes)} of {size(shared.total_bytes)} free"
    if not shared.writable:
        return fail(_SHM, f"{found}, and can't be written by this user", "It needs mode 1777.")
    if shared.total_bytes <= _TINY_SHARED and (facts.gpus or 0) > 1:
        return fail(_SHM, f"{found}: too little for engines on several GPUs", todo)
    if shared.free_bytes < _LITTLE_SHARED:
        return warn(_SHM, f"{found}: little", f"Look for leftovers in it. {todo}")
    return ok(_SHM, found)


def _limits(limits: Limits) -> Iterator[Finding]:
    yield _files(limits)
    locked = f"{_bytes(limits.locked_bytes)} ({limits.whose})"
    if limits.rdma and limits.locked_bytes is not None and limits.locked_bytes < _RDMA_LOCKED:
        todo = "LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`: NCCL registers memory with the adapter."
        yield warn("memlock", f"{locked}, and there are RDMA devices", todo)
    else:
        yield ok("memlock", locked)
    bounds = [one for one in (limits.processes, limits.pids_max) if one is not None]
    tasks = min(bounds) if bounds else None
    found = f"{'unlimited' if tasks is None else tasks} ({limits.whose})"
    if tasks is not None and tasks < _FEW_TASKS:
        yield warn("nproc", found, "Raise LimitNPROC= and TasksMax= of the unit, or `ulimit -u`; pids of a container.")
    else:
        yield ok("nproc", found)


def _files(limits: Limits) -> Finding:
    soft, hard = limits.files, limits.files_hard
    found = f"{'unlimited' if soft is None else soft} ({limits.whose})"
    if soft is None or soft >= _FEW_FILES:
        return ok("nofile", found)
    reachable = min(_MANY_FILES, _MANY_FILES if hard is None else hard)
    todo = f"LimitNOFILE={_MANY_FILES} in the unit, or `ulimit -n {reachable}`: each client is a file."
    return (fail if soft < _TOO_FEW_FILES else warn)("nofile", found, todo)


def _memory(memory: Memory | None) -> Iterator[Finding]:
    if memory is None:
        yield unknown("memory", "/proc/meminfo can't be read")
        return
    found = f"{size(memory.available_bytes)} of {size(memory.total_bytes)} available"
    if memory.available_bytes < _LITTLE_AVAILABLE:
        yield warn("memory", found, "Free some: an engine takes 3 GB besides its model.")
    else:
        yield ok("memory", found)
    yield _swap(memory)
    yield _oom(memory)
    if memory.huge_pages is not None:
        yield ok("huge pages", f"transparent: {memory.huge_pages}")  # none of the three is wrong


def _swap(memory: Memory) -> Finding:
    if not memory.swap_bytes:
        return ok("swap", "none")
    found = f"{size(memory.swapped_bytes)} of {size(memory.swap_bytes)} in use"
    if memory.swapped_bytes > _MUCH_SWAPPED * memory.total_bytes:
        todo = "Engines that are swapped stall, and look hung: free memory, or MemorySwapMax=0 in the unit."
        return warn("swap", found, todo)
    return ok("swap", found)


def _oom(memory: Memory) -> Finding:
    if memory.oom_score_adj is None:
        return unknown("oom score", f"that of {memory.whose} can't be read")
    found = f"{memory.oom_score_adj} ({memory.whose})"
    if memory.oom_score_adj > 0:
        return warn("oom score", f"{found}: killed before others", "OOMScoreAdjust=-500 in the unit: engines go first.")
    return ok("oom score", found)


def _clock(clock: Clock) -> Finding:
    day = datetime.datetime.fromtimestamp(clock.seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    keep = "Have chrony, ntpd or systemd-timesyncd keep it (`timedatectl set-ntp true`)."
    if clock.seconds < _EARLIEST:
        return fail("clock", f"{day}: it was never set, and no certificate is valid yet", keep)
    if abs(clock.jumped_seconds) > _JUMP_SECONDS:
        found = f"{day}, and jumped by {clock.jumped_seconds:+.1f} s just now"
        return warn("clock", found, "Let it be slewed, not stepped; times in logs and events can't be compared now.")
    if clock.synchronized is None:
        return unknown("clock", f"{day}; whether somebody keeps it can't be seen")
    if not clock.synchronized:
        return warn("clock", f"{day}, kept by nobody", f"{keep} A container or guest may be kept by its host.")
    return ok("clock", f"{day}, synchronized")


def _bytes(bound: Bound) -> str:
    return "unlimited" if bound is None else size(bound)
