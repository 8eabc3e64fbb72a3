"""All trees that are being ended or would not end: one attempt at a time for each, and quarantine for their GPUs."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

from vllmd.config import Live
from vllmd.engines.containment import Containment
from vllmd.engines.reclaim import Report
from vllmd.events import Events, Kind
from vllmd.gpu.inventory import Inventory
from vllmd.gpu.ledger import Expectation, not_back
from vllmd.gpu.monitor import GpuMonitor
from vllmd.gpu.quarantine import Quarantines
from vllmd.tasks import spawn
from vllmd.watchdog.doomed import Doomed, Key, end_foreign, end_ours
from vllmd.watchdog.scene import Judged, Scene
from vllmd.watchdog.verdicts import Verdict
from vllmd.worker.processes import Identity, Stat

RETRY_SECONDS = 30.0
"""What SIGKILL does not end hangs in the driver, where another one changes nothing at once."""

LOST_SECONDS = 30.0
"""What NVML lists and no process is behind does not come back any more after that."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Stuck:
    """A tree that did not end, or whose memory did not come back."""

    doomed: Doomed | None
    """`None` for what NVML lists and no process is behind: there is nothing to end."""
    pids: frozenset[int]
    expected: tuple[Expectation, ...]
    quarantined: frozenset[str]
    """Those that are there for it."""
    retry_at: float


class Endings:
    """Ends trees, and keeps account of those that would not.

    Args:
        monitor: the GPUs.
        events: where it is recorded.
        quarantines: where GPUs go whose memory does not come back.
        root: the directory of our engines' directories.
        containment: where our engines' cgroups are.
        confirm: asked about the uppermost process of another program's tree right before it is killed.
        live: has the seconds for the processes' end, and again for the memory.
        clock: seconds, for when to try again.
    """

    def __init__(
        self,
        monitor: GpuMonitor,
        events: Events,
        quarantines: Quarantines,
        root: pathlib.Path,
        containment: Containment,
        confirm: Callable[[Stat], bool],
        live: Live,
        clock: Callable[[], float],
    ) -> None:
        self._monitor = monitor
        self._events = events
        self._quarantines = quarantines
        self._root = root
        self._containment = containment
        self._confirm = confirm
        self._live = live
        self._clock = clock
        self._running: dict[Key, asyncio.Task[Report]] = {}
        self._busy: dict[Key, frozenset[str]] = {}
        self._stuck: dict[Key | int, _Stuck] = {}

    @property
    def busy(self) -> frozenset[str]:
        """Name the GPUs on which something is being ended."""
        return frozenset[str]().union(*self._busy.values())

    @property
    def killed(self) -> list[Identity]:
        """List the processes that SIGKILL did not end."""
        return [one for stuck in self._stuck.values() if stuck.doomed is not None for one in stuck.doomed.alive()]

    def end(self, doomed: Doomed) -> asyncio.Task[Report]:
        """End a tree; returns the attempt that is running, if one is."""
        running = self._running.get(doomed.key)
        if running is None:
            running = self._running[doomed.key] = spawn(f"end {doomed.key}", self._end(doomed))
            self._busy[doomed.key] = frozenset(doomed.uuids)
        return running

    async def settled(self, timeout: float) -> None:
        """Wait for the ends that have begun, at most *timeout* seconds."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=timeout)

    def new(self, trees: Iterable[Doomed]) -> list[Doomed]:
        """Pick the trees that nobody is at yet, and whose turn it is not only later.

        One that would not end and has got somebody new since is among them: they were never killed.
        """
        return [doomed for doomed in trees if doomed.key not in self._running and self._is_new(doomed)]

    def _is_new(self, doomed: Doomed) -> bool:
        stuck = self._stuck.get(doomed.key)
        return stuck is None or (stuck.doomed is not None and doomed.has_grown(stuck.doomed))

    def review(self, scene: Scene, stood: Callable[[Judged], float]) -> None:
        """Let GPUs out of quarantine, put those in that hold memory of lost processes, and try again what is due."""
        if scene.inventory.available:
            self._lift(scene.inventory)
        for one in scene.of(Verdict.DEAD):
            if one.stat is None and one.pid not in self._stuck and stood(one) >= LOST_SECONDS:
                reason = f"its memory is held by process {one.pid}, which is gone"
                self._keep(one.pid, None, [one.pid], [Expectation(uuid, 0) for uuid in sorted(one.uuids)], reason)
        now = self._clock()
        for key, stuck in self._stuck.items():
            if stuck.doomed is not None and now >= stuck.retry_at and stuck.doomed.alive():
                self._stuck[key] = dataclasses.replace(stuck, retry_at=now + RETRY_SECONDS)
                self.end(stuck.doomed)

    async def _end(self, doomed: Doomed) -> Report:
        try:
            report = await self._attempt(doomed)
        finally:
            del self._running[doomed.key]
            self._busy.pop(doomed.key, None)
        if not report.verified and report.pids:
            self._keep(doomed.key, doomed, report.pids, doomed.expected, report.summary)
        self._events.record(
            Kind.RECLAIM,
            report.summary,
            reasons=doomed.members[0].judgement.reasons,
            engine=doomed.engine,
            gpus=doomed.uuids,
            pids=report.pids or doomed.pids,
        )
        return report

    async def _attempt(self, doomed: Doomed) -> Report:
        timeout = self._live.rules.reclaim_timeout
        if doomed.engine:
            self._tell_killed(doomed, tuple(doomed.pids))
            return await end_ours(doomed, self._root, self._containment, self._monitor, timeout)
        root = doomed.members[0].stat
        assert root is not None, "nothing without a process is anybody's tree"

        def killed(pids: tuple[int, ...]) -> None:
            self._tell_killed(doomed, pids)

        return await end_foreign(doomed, root, self._monitor, timeout, lambda: self._confirm(root), killed, self._root)

    def _tell_killed(self, doomed: Doomed, pids: tuple[int, ...]) -> None:
        stat = doomed.members[0].stat
        name = stat.name if stat is not None else ""
        others = len(pids) - 1
        message = f"{name} (pid {doomed.members[0].pid}) is killed" + (
            f" and {others} more with it." if others else "."
        )
        self._events.record(
            Kind.KILL,
            message,
            reasons=doomed.members[0].judgement.reasons,
            engine=doomed.engine,
            gpus=doomed.uuids,
            pids=pids,
            name=name,
            pid=doomed.members[0].pid,
        )

    def _keep(
        self,
        key: Key | int,
        doomed: Doomed | None,
        pids: Sequence[int],
        expected: Sequence[Expectation],
        reason: str,
    ) -> None:
        """Remember what would not go, with its GPUs in quarantine."""
        engine = doomed.engine if doomed is not None else ""
        before = self._stuck.get(key)
        uuids = frozenset(one.uuid for one in expected) | (before.quarantined if before is not None else frozenset())
        for uuid in uuids:
            self._quarantines.put(uuid, reason, engine, holder=("watchdog", key))
        if before is not None:
            # What its GPUs should hold was known best before any of this was in use for nobody.
            expected = tuple({one.uuid: one for one in (*expected, *before.expected)}.values())
            pids = (*pids, *before.pids)
            if doomed is not None and before.doomed is not None:
                doomed = doomed.joined(before.doomed)
        retry_at = self._clock() + RETRY_SECONDS
        self._stuck[key] = _Stuck(doomed, frozenset(pids), tuple(expected), uuids, retry_at)

    def _lift(self, inventory: Inventory) -> None:
        """Let GPUs out that NVML shows to have their memory back, if they are in quarantine for us."""
        for key, stuck in list(self._stuck.items()):
            if key in self._running or not self._is_over(stuck, inventory):
                continue
            del self._stuck[key]
            for uuid in stuck.quarantined:
                self._quarantines.lift(uuid, "NVML shows its memory back", holder=("watchdog", key))

    @staticmethod
    def _is_over(stuck: _Stuck, inventory: Inventory) -> bool:
        if stuck.doomed is not None:
            return not stuck.doomed.alive() and not not_back(inventory.gpus, stuck.expected, stuck.pids)
        by_uuid = {gpu.uuid: gpu for gpu in inventory.gpus}
        present = [by_uuid.get(one.uuid) for one in stuck.expected]
        return all(gpu is not None and not any(p.pid in stuck.pids for p in gpu.processes) for gpu in present)
