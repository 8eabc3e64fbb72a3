"""One look at the GPUs and at who holds them, with the verdict on each."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
from collections.abc import Callable, Collection, Hashable

from vllmd.engines.containment import Containment
from vllmd.gpu.inventory import Inventory
from vllmd.gpu.monitor import GpuMonitor
from vllmd.watchdog.gather import Gatherer
from vllmd.watchdog.observe import Look, Observer, boot_time
from vllmd.watchdog.parents import Parents
from vllmd.watchdog.verdicts import Facts, Judgement, Verdict, judge_all, top
from vllmd.worker.processes import Identity, Stat


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """What a process holds on one GPU."""

    uuid: str
    used_bytes: int | None
    """`None` if the driver does not say."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A process, and the verdict on it."""

    pid: int
    stat: Stat | None
    """`None` if there is no such process in `/proc`."""
    uid: int | None
    start_time: float | None
    """Seconds since the epoch."""
    shares: tuple[Share, ...]
    judgement: Judgement
    top: int
    """The uppermost process of the orphans' tree that it is in: itself, unless it is below another."""

    @property
    def key(self) -> Hashable:
        """Tell it from all others, of other times too."""
        return self.pid if self.stat is None else self.stat.identity

    @property
    def uuids(self) -> frozenset[str]:
        """Name the GPUs that it holds memory on."""
        return frozenset(share.uuid for share in self.shares)

    @property
    def used_bytes(self) -> int:
        """Sum up what it is known to hold."""
        return sum(share.used_bytes or 0 for share in self.shares)


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """All that a look showed."""

    inventory: Inventory
    judged: tuple[Judged, ...]
    """Those that hold most first."""

    def held(self) -> dict[str, dict[str, int]]:
        """Sum up what our living engines hold, in bytes by engine and GPU, where the driver says so."""
        found: dict[str, dict[str, int]] = {}
        for one in self.of(Verdict.OWNED):
            engine = found.setdefault(one.judgement.engine, {})
            for share in one.shares:
                if share.used_bytes is not None:
                    engine[share.uuid] = engine.get(share.uuid, 0) + share.used_bytes
        return found

    def of(self, verdict: Verdict) -> list[Judged]:
        """Pick those with one verdict."""
        return [one for one in self.judged if one.judgement.verdict is verdict]


class Lookout:
    """Looks at GPUs and processes; has to be made in a running event loop.

    Args:
        monitor: the GPUs.
        root: the directory of our engines' directories.
        containment: where our engines' cgroups are.
        living: tells the ids of our engines that have not ended.
        parent_died: called when the parent of a process of vLLM's has died.
    """

    def __init__(
        self,
        monitor: GpuMonitor,
        root: pathlib.Path,
        containment: Containment,
        living: Callable[[], frozenset[str]],
        parent_died: Callable[[], None],
    ) -> None:
        self._monitor = monitor
        self._root = root
        self._containment = containment
        self._living = living
        self._parents = Parents(parent_died)
        self._observer = Observer()
        self._gatherer = Gatherer(root, containment, self._parents.fate)

    async def look(self, killed: Collection[Identity] = ()) -> Scene:
        """Look, and judge; calls must not overlap.

        Args:
            killed: processes that were sent SIGKILL and had the time to end.
        """
        living = self._living()
        inventory = await self._monitor.snapshot()
        on_gpus = frozenset(process.pid for gpu in inventory.gpus for process in gpu.processes)
        look = await asyncio.to_thread(self._observer.look, on_gpus)
        self._parents.watch(look.called_like_vllm)
        facts = await asyncio.to_thread(self._gatherer.facts, look, self._observer, killed)
        # Of an engine that has begun meanwhile only the later list knows, of one that has ended only the earlier.
        judgements = judge_all(facts, living | self._living())
        boot = boot_time()
        judged = [_judged(pid, look, inventory, facts, judgements, boot) for pid in facts]
        return Scene(inventory, tuple(sorted(judged, key=lambda one: (-one.used_bytes, one.pid))))

    def confirms(self, root: Stat) -> bool:
        """Tell whether a process is still exactly what it was, and proven to be an orphan of another program.

        Looks at everything anew, and at nothing that was remembered, except for what became of its parent. Blocks.
        """
        observer = Observer()
        look = observer.look(())
        facts = Gatherer(self._root, self._containment, self._parents.fate).facts(look, observer)
        judgement = judge_all(facts, self._living()).get(root.identity.pid)
        now = look.stats.get(root.identity.pid)
        same = now is not None and (now.identity, now.name, now.parent_pid) == (
            root.identity,
            root.name,
            root.parent_pid,
        )
        return same and judgement is not None and judgement.verdict is Verdict.FOREIGN_ORPHAN and judgement.reachable

    def close(self) -> None:
        """Stop watching parents."""
        self._parents.close()


def _judged(
    pid: int, look: Look, inventory: Inventory, facts: dict[int, Facts], judgements: dict[int, Judgement], boot: float
) -> Judged:
    seen = look.seen.get(pid)
    shares = [
        Share(gpu.uuid, process.used_bytes) for gpu in inventory.gpus for process in gpu.processes if process.pid == pid
    ]
    return Judged(
        pid=pid,
        stat=seen.stat if seen is not None else None,
        uid=seen.details.uid if seen is not None else None,
        start_time=boot + seen.stat.identity.start_ticks / os.sysconf("SC_CLK_TCK") if seen is not None else None,
        shares=tuple(shares),
        judgement=judgements[pid],
        top=top(pid, facts, judgements),
    )
