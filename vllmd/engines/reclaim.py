"""The end of an engine, and the proof of it: no process, no GPU memory, no file.

NVML has the last word. The kernel frees a killed process's GPU memory some time after the process is gone
(1.7 s for 86 GiB on an H200), so an engine counts as gone only once NVML agrees.
"""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import time
from collections.abc import Sequence

from vllmd.gpu.inventory import Gpu, fuller
from vllmd.gpu.ledger import Expectation, not_back
from vllmd.gpu.monitor import GpuMonitor
from vllmd.tasks import spawn
from vllmd.worker import cgroup as cgroups
from vllmd.worker import leftovers
from vllmd.worker.processes import Identity, reap
from vllmd.worker.tree import Killed, Tree

_POLL_SECONDS = 0.1
NOT_BACK = "NVML does not show its memory back"


@dataclasses.dataclass(frozen=True, slots=True)
class GpuReclaim:
    """One GPU before and after."""

    uuid: str
    used_bytes_before: int
    used_bytes_after: int


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What the end of an engine gave back."""

    verified: bool
    summary: str
    pids: tuple[int, ...] = ()
    killed: int = 0
    """How many of these were still there to be killed."""
    gpus: tuple[GpuReclaim, ...] = ()
    kept: tuple[str, ...] = ()
    """UUIDs of the GPUs that are not proven to have their memory back: all of them, if a process is still there."""
    removed: tuple[str, ...] = ()
    exit_seconds: float = 0.0
    memory_seconds: float = 0.0
    shutdown_seconds: float | None = None
    """What it took to end by itself before it was killed; `None` if it was not asked to."""


NOTHING = Report(True, "Nothing to give back: it was never started.")


@dataclasses.dataclass(frozen=True, slots=True)
class Remains:
    """All that an engine can leave: where its reclaim has to look."""

    tree: Tree
    directory: pathlib.Path
    known: tuple[Identity, ...] = ()
    """Processes that were seen in the tree while it lived."""
    expected: tuple[Expectation, ...] = ()
    """What its GPUs should hold without it."""
    loaded: tuple[Gpu, ...] = ()
    """Its GPUs as they were before it was asked to end; empty if it was not asked."""
    shutdown_seconds: float | None = None
    """What it took to end by itself; `None` if it was not asked to."""


async def reclaim(remains: Remains, monitor: GpuMonitor, timeout: float) -> Report:
    """Kill the tree, wait for its end and its memory, and remove what it left.

    Args:
        remains: what is left of the engine.
        monitor: the GPUs.
        timeout: seconds for the processes' end, and again for the memory.
    """
    start = time.monotonic()
    uuids = frozenset(expected.uuid for expected in remains.expected)
    earlier = monitor.last.named(uuids)
    # Beside the kill, which must not wait for a driver that hangs.
    looking = None if remains.loaded or not uuids else spawn("look before the kill", monitor.snapshot())
    killed = await asyncio.to_thread(remains.tree.kill, timeout, remains.known)
    before = remains.loaded if looking is None else fuller(earlier, (await looking).named(uuids))
    pids = tuple(sorted({*(identity.pid for identity in remains.known), *killed.pids}))
    reap(pids)
    exited = time.monotonic()
    after, kept = await await_memory(remains.expected, frozenset(pids), monitor, timeout)
    memory = time.monotonic()
    removed, unremoved = await asyncio.to_thread(_remove, remains, bool(killed.survivors), not kept)
    return dataclasses.replace(
        report_of(killed, before, after, remains.expected, kept, unremoved),
        pids=pids,
        removed=removed,
        exit_seconds=exited - start,
        memory_seconds=memory - exited,
        shutdown_seconds=remains.shutdown_seconds,
    )


async def await_memory(
    expected: Sequence[Expectation], pids: frozenset[int], monitor: GpuMonitor, timeout: float
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """Poll NVML until every GPU has back what processes held, or the time is over.

    Returns:
        The last look, and the UUIDs of those that do not have it back.
    """
    uuids = frozenset(one.uuid for one in expected)
    deadline = time.monotonic() + timeout
    while expected:
        now = (await monitor.snapshot()).named(uuids)
        kept = not_back(now, expected, pids)
        if not kept or time.monotonic() > deadline:
            return now, tuple(one.uuid for one in kept)
        await asyncio.sleep(_POLL_SECONDS)
    return (), ()


def _remove(remains: Remains, in_use: bool, back: bool) -> tuple[tuple[str, ...], list[str]]:
    """Remove files, shared memory and the cgroup; what a living process may use is kept.

    So is the directory until the memory is back: by that a later daemon knows what its GPUs should hold.
    """
    if in_use:
        return (), []
    problems = []
    removed = leftovers.remove_shared_memory(remains.tree.engine_id)
    if back:
        try:
            leftovers.remove_directory(remains.directory)
        except OSError as error:
            problems.append(f"its directory can't be removed ({error})")
    cgroup = remains.tree.cgroup
    if cgroup is not None and not cgroups.remove(cgroup):
        problems.append("its cgroup is not empty")
    return tuple(removed), problems


def report_of(
    killed: Killed,
    before: Sequence[Gpu],
    after: Sequence[Gpu],
    expected: Sequence[Expectation],
    kept: Sequence[str],
    unremoved: Sequence[str] = (),
) -> Report:
    """Say what the end of a tree came to, apart from the time that it took.

    Args:
        killed: its processes.
        before: its GPUs.
        after: those of them that could be read when the wait for its memory was over.
        expected: what its GPUs should hold.
        kept: the UUIDs of those whose memory is not back.
        unremoved: what else speaks against the proof.
    """
    problems = (*_shortfalls(kept, after, killed.survivors), *unremoved)
    gpus = _compare(before, after)
    return Report(
        verified=not problems,
        summary=_summarize(problems, len(killed.pids), gpus),
        pids=killed.pids,
        killed=len(killed.pids) - len(killed.survivors),
        gpus=gpus,
        kept=tuple(one.uuid for one in expected) if killed.survivors else tuple(kept),
    )


def _compare(before: Sequence[Gpu], after: Sequence[Gpu]) -> tuple[GpuReclaim, ...]:
    """Put two looks at some GPUs side by side; one that is missing from the later is as it was."""
    final = {gpu.uuid: gpu.used_bytes for gpu in after}
    return tuple(GpuReclaim(gpu.uuid, gpu.used_bytes, final.get(gpu.uuid, gpu.used_bytes)) for gpu in before)


def _shortfalls(kept: Sequence[str], after: Sequence[Gpu], survivors: Sequence[int]) -> list[str]:
    """Say what speaks against the proof: memory that is not back, and processes that SIGKILL did not end."""
    problems = [NOT_BACK] if kept else []
    unread = sorted(set(kept) - {gpu.uuid for gpu in after})
    if unread:
        problems[0] += f", as {' and '.join(unread)} can't be read"
    if survivors:
        problems.append(f"SIGKILL did not end {len(survivors)} of its processes ({', '.join(map(str, survivors))})")
    return problems


def _summarize(problems: Sequence[str], killed: int, gpus: Sequence[GpuReclaim]) -> str:
    """Sum a reclaim up in a sentence."""
    if problems:
        return "Not proven to be gone: " + "; ".join(problems) + "."
    freed = sum(gpu.used_bytes_before - gpu.used_bytes_after for gpu in gpus)
    processes = f"{killed} process{'es' if killed != 1 else ''} killed" if killed else "ended by itself"
    return f"Gone: {processes}" + (f", {freed / (1 << 30):.2f} GiB of GPU memory back." if gpus else ".")
