"""The watchdog: looks at who holds GPU memory, and ends what nobody answers for."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from vllmd.config import Live
from vllmd.engines.containment import Containment
from vllmd.engines.reclaim import Report
from vllmd.errors import NotFound, NotPossible
from vllmd.events import Events, Kind
from vllmd.gpu.inventory import Gpu, Inventory
from vllmd.gpu.monitor import GpuMonitor
from vllmd.gpu.quarantine import Quarantines
from vllmd.watchdog.doomed import Doomed, trees
from vllmd.watchdog.endings import Endings
from vllmd.watchdog.leaks import Leaks
from vllmd.watchdog.scene import Judged, Lookout, Scene
from vllmd.watchdog.standings import Case, Standings
from vllmd.watchdog.verdicts import Policy, Verdict, outlook

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A process as it is shown: with what will become of it."""

    judged: Judged
    reasons: tuple[str, ...]
    doomed: bool
    """A reclaim would kill it now."""


class Watchdog:
    """Looks again and again and whenever it is poked; has to be made in a running event loop.

    Args:
        monitor: the GPUs.
        events: where it is recorded what was found and done.
        quarantines: where GPUs go whose memory does not come back.
        root: the directory of our engines' directories.
        containment: where our engines' cgroups are.
        live: what is done with orphans of other programs, how long one has to stay one before that, how often to look,
            and how long what is killed may take to be gone.
        living: tells the ids of our engines that have not ended.
        busy: names the GPUs on which an engine is just starting or ending: nothing that could wait is done there.
        due: looks up what one of our engines took when it was loaded, in bytes by GPU.
        looked: called with each look at the GPUs.
        weighed: called with each look at the GPUs, and what each of our engines holds there by the driver's word.
        clock: seconds; what times the grace.
    """

    def __init__(
        self,
        *,
        monitor: GpuMonitor,
        events: Events,
        quarantines: Quarantines,
        root: pathlib.Path,
        containment: Containment,
        live: Live,
        living: Callable[[], frozenset[str]],
        busy: Callable[[], frozenset[str]],
        due: Callable[[str], Mapping[str, int]] = lambda engine: {},
        looked: Callable[[Inventory], None] = lambda inventory: None,
        weighed: Callable[[Sequence[Gpu], Mapping[str, Mapping[str, int]]], None] = lambda gpus, held: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live = live
        self._events = events
        self._busy = busy
        self._due = due
        self._looked = looked
        self._weighed = weighed
        self._clock = clock
        self._poked = asyncio.Event()
        self._looking = asyncio.Lock()
        self._lookout = Lookout(monitor, root, containment, living, self.poke)
        self._endings = Endings(monitor, events, quarantines, root, containment, self._lookout.confirms, live, clock)
        self._standings = Standings()
        self._leaks = Leaks()

    @property
    def policy(self) -> Policy:
        """What is done with orphans of other programs."""
        return self._live.rules.foreign_orphans

    @property
    def grace(self) -> float:
        """Seconds that such a one has to stay one before it is killed."""
        return self._live.rules.orphan_grace

    def poke(self) -> None:
        """Have it look at once."""
        self._poked.set()

    async def run(self) -> None:
        """Look and act until cancelled."""
        while True:
            self._poked.clear()
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001 - what failed once must not end the watch for good
                _log.error("a look of the watchdog failed", exc_info=error)
            try:
                async with asyncio.timeout(self._live.rules.watchdog_interval):
                    await self._poked.wait()
            except TimeoutError:
                pass  # nobody poked it

    async def round(self) -> None:
        """Look once, and begin to end what is to be ended."""
        scene = await self._look()
        for doomed in self._endings.new(trees(scene, [one for one in scene.judged if self._outlook(one, scene)[0]])):
            self._endings.end(doomed)

    async def processes(self) -> list[Listed]:
        """Look, and list all processes that hold GPU memory or are called like vLLM's, those that hold most first."""
        scene = await self._look()
        return [self._listed(one, scene) for one in scene.judged]

    async def doomed(self, pid: int | None = None) -> list[Listed]:
        """List what a reclaim would kill.

        Args:
            pid: a process, for only the tree that it is in; `None` for all that nobody answers for.

        Raises:
            NotFound: there is no such process on a GPU, and none of that pid is called like vLLM's.
            NotPossible: it is not proven that nobody answers for it.
        """
        scene = await self._look()
        return [self._listed(one, scene) for doomed in self._doomed(scene, pid) for one in doomed.members]

    async def reclaim(self, pid: int | None = None) -> tuple[list[Listed], list[Report]]:
        """Kill what nobody answers for, without the grace period; returns what that was, and what it gave back.

        Args:
            pid: as for `doomed`, with the same errors.
        """
        scene = await self._look()
        doomed = self._doomed(scene, pid)
        listed = [self._listed(one, scene) for tree in doomed for one in tree.members]
        attempts = [self._endings.end(tree) for tree in doomed]
        # Who asked may go meanwhile; what was begun is done to its end.
        return listed, [await asyncio.shield(attempt) for attempt in attempts]

    async def settled(self, timeout: float) -> None:
        """Wait for the ends that have begun, at most *timeout* seconds, as before this daemon ends."""
        await self._endings.settled(timeout)

    def close(self) -> None:
        """Let go of what is watched."""
        self._lookout.close()

    async def _look(self) -> Scene:
        """Look, and record what is new."""
        async with self._looking:
            scene = await self._lookout.look(self._endings.killed)
            self._looked(scene.inventory)
            self._weighed(scene.inventory.gpus, scene.held())
            self._record_verdicts(scene)
            self._record_leaks(scene)
            self._endings.review(scene, self._stood)
            return scene

    def _doomed(self, scene: Scene, pid: int | None) -> list[Doomed]:
        chosen = [one for one in scene.judged if pid is None or one.pid == pid]
        if pid is not None and not chosen:
            message = f"Process {pid} holds no GPU memory and is not called like vLLM's."
            raise NotFound("PROCESS_NOT_FOUND", message, pid=pid)
        ripe = [one for one in chosen if self._outlook(one, scene, asked=True, named=pid is not None)[0]]
        if pid is not None and not ripe:
            why = "; ".join(self._listed(chosen[0], scene).reasons)
            message = f"Process {pid} is {chosen[0].judgement.verdict} and is left alone: {why}."
            verdict = chosen[0].judgement.verdict
            raise NotPossible("NOT_AN_ORPHAN", message, pid=pid, verdict=verdict, error=why)
        return trees(scene, ripe)

    def _listed(self, one: Judged, scene: Scene) -> Listed:
        reasons = one.judgement.reasons
        _, prospect = self._outlook(one, scene)
        doomed, _ = self._outlook(one, scene, asked=True)
        return Listed(one, (*reasons, prospect) if prospect else reasons, doomed)

    def _outlook(self, one: Judged, scene: Scene, *, asked: bool = False, named: bool = False) -> tuple[bool, str]:
        tree = [other for other in scene.judged if other.top == one.top]
        uuids = frozenset[str]().union(*(other.uuids for other in tree))
        uppermost = next((other for other in tree if other.pid == one.top), one)
        return outlook(
            one.judgement,
            policy=self.policy,
            holds=named or bool(uuids),
            busy=not uuids.isdisjoint(self._busy()),
            asked=asked,
            stood=self._stood(uppermost),
            grace=self.grace,
        )

    def _stood(self, one: Judged) -> float:
        return self._standings.stood(one.key, self._clock())

    def _record_verdicts(self, scene: Scene) -> None:
        by_key = {one.key: one for one in scene.judged}
        cases = {
            key: Case(one.judgement.verdict, one.stat.parent_pid if one.stat is not None else 0)
            for key, one in by_key.items()
        }
        for key, before in self._standings.update(cases, self._clock()):
            if self._is_of_interest(by_key[key], scene):
                self._record_verdict(by_key[key], before)

    def _is_of_interest(self, one: Judged, scene: Scene) -> bool:
        """Tell whether it is more than a program that never had memory on a GPU of ours."""
        match one.judgement.verdict:
            case Verdict.ORPHAN:
                return True
            case Verdict.FOREIGN_ORPHAN if self.policy == "ignore":
                return False
            case _:
                return any(other.shares for other in scene.judged if other.top == one.top)

    def _record_verdict(self, one: Judged, before: Verdict | None) -> None:
        name = one.stat.name if one.stat is not None else ""
        verdict = one.judgement.verdict
        self._events.record(
            Kind.VERDICT,
            f"{name or 'A process'} (pid {one.pid}) is {verdict}" + (f", and was {before}." if before else "."),
            reasons=one.judgement.reasons,
            engine=one.judgement.engine,
            gpus=sorted(one.uuids),
            pids=[one.pid],
            name=name,
            verdict=verdict,
        )

    def _record_leaks(self, scene: Scene) -> None:
        busy: Collection[str] = self._busy() | self._endings.busy
        now = self._clock()
        found = self._leaks.observe(scene.inventory.gpus, busy, now)
        for news in (*found, *self._leaks.compare(scene.held(), self._due, now)):
            self._events.record(
                Kind.LEAK, news.message, engine=news.engine, gpus=[news.uuid], leaked_bytes=news.leaked_bytes
            )
