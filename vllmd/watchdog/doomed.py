"""The end of one tree that nobody answers for, and the proof that its memory is back."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence

from vllmd.engines import reclaim
from vllmd.engines.containment import Containment
from vllmd.gpu.inventory import Gpu
from vllmd.gpu.ledger import Expectation
from vllmd.gpu.monitor import GpuMonitor
from vllmd.watchdog.halted import noted
from vllmd.watchdog.scene import Judged, Scene
from vllmd.watchdog.verdicts import Verdict
from vllmd.worker.descent import Descent
from vllmd.worker.processes import Identity, Stat, read_stat, reap
from vllmd.worker.tree import Killed, Tree

Key = str | Identity
"""Of a tree: an engine's id, or the uppermost process of another program's tree."""


@dataclasses.dataclass(frozen=True, slots=True)
class Doomed:
    """A tree that is to be ended, as it was when that was decided."""

    key: Key
    members: tuple[Judged, ...]
    """All that were judged, the uppermost first."""
    gpus: tuple[Gpu, ...]
    """Those that they hold memory on."""

    @property
    def engine(self) -> str:
        """The id of the engine of ours that it was; empty for another program's."""
        return self.key if isinstance(self.key, str) else ""

    @property
    def uuids(self) -> list[str]:
        """Name its GPUs."""
        return [gpu.uuid for gpu in self.gpus]

    @property
    def pids(self) -> list[int]:
        """List those that were judged."""
        return [member.pid for member in self.members]

    @property
    def identities(self) -> list[Identity]:
        """List those that were judged and are more than a number in NVML's list."""
        return [member.stat.identity for member in self.members if member.stat is not None]

    @property
    def expected(self) -> tuple[Expectation, ...]:
        """Say what its GPUs should hold without it.

        Where NVML does not say what each process holds, all that can be told is that no more is in use than before.
        """
        floors = ((gpu, gpu.unaccounted_bytes) for gpu in self.gpus)
        return tuple(Expectation(gpu.uuid, gpu.used_bytes if floor is None else floor) for gpu, floor in floors)

    def has_grown(self, earlier: Doomed) -> bool:
        """Tell whether there is somebody in it who was not in it earlier."""
        return not set(self.identities) <= set(earlier.identities)

    def joined(self, earlier: Doomed) -> Doomed:
        """Put it together with what it was earlier, of whom some may not have ended yet."""
        identities = set(self.identities)
        members = [one for one in earlier.members if one.stat is not None and one.stat.identity not in identities]
        gpus = {gpu.uuid: gpu for gpu in (*self.gpus, *earlier.gpus)}
        return Doomed(self.key, (*self.members, *members), tuple(gpus.values()))

    def alive(self) -> list[Identity]:
        """List those of its processes that have not ended."""
        stats = [(identity, read_stat(identity.pid)) for identity in self.identities]
        return [one for one, stat in stats if stat is not None and stat.identity == one and not stat.dead]


def trees(scene: Scene, chosen: Sequence[Judged]) -> list[Doomed]:
    """Put orphans together by the trees that they are in, each with all of its members."""
    keys = dict.fromkeys(key for one in chosen if (key := _key(one, scene)) is not None)
    found = []
    for key in keys:
        members = [one for one in scene.judged if _key(one, scene) == key]
        members.sort(key=lambda one: one.pid != one.top)
        uuids = frozenset[str]().union(*(member.uuids for member in members))
        found.append(Doomed(key, tuple(members), scene.inventory.named(uuids)))
    return found


def _key(one: Judged, scene: Scene) -> Key | None:
    match one.judgement.verdict:
        case Verdict.ORPHAN:
            return one.judgement.engine
        case Verdict.FOREIGN_ORPHAN:
            tops = (other.stat.identity for other in scene.judged if other.pid == one.top and other.stat is not None)
            return next(tops, None)
        case _:
            return None


async def end_ours(
    doomed: Doomed, root: pathlib.Path, containment: Containment, monitor: GpuMonitor, timeout: float
) -> reclaim.Report:
    """End what is left of an engine of ours, as any engine is ended."""
    engine = doomed.engine
    tree = Tree(engine, None, containment.path(engine), root / engine)
    known = tuple(doomed.identities)
    remains = reclaim.Remains(tree, root / engine, known=known, expected=doomed.expected)
    return await reclaim.reclaim(remains, monitor, timeout)


async def end_foreign(
    doomed: Doomed,
    root: Stat,
    monitor: GpuMonitor,
    timeout: float,
    confirm: Callable[[], bool],
    killed: Callable[[tuple[int, ...]], None],
    directory: pathlib.Path,
) -> reclaim.Report:
    """End an orphan of another program with all below it.

    Args:
        doomed: its tree.
        root: the uppermost process of it.
        monitor: the GPUs.
        timeout: seconds for the processes' end, and again for the memory.
        confirm: asked once more when all of it is stopped.
        killed: called with the pids that were killed, before the wait for the memory.
        directory: where it is written down who is stopped, for a daemon that comes after this one's death.
    """
    start = time.monotonic()

    def kill() -> Killed:
        with noted(directory, root.identity) as note:  # as long as the kill, which goes on if this is cancelled
            return Descent(root).kill(timeout, lambda: confirm() and note.confirmed(), note.stopping)

    result = await asyncio.to_thread(kill)
    exited = time.monotonic()
    if not result.pids:
        return reclaim.Report(False, "Left alone: it is not any more what it was when that was decided.")
    reap(result.pids)
    killed(result.pids)
    after, kept = await reclaim.await_memory(doomed.expected, frozenset(result.pids), monitor, timeout)
    report = reclaim.report_of(result, doomed.gpus, after, doomed.expected, kept)
    return dataclasses.replace(report, exit_seconds=exited - start, memory_seconds=time.monotonic() - exited)
