"""All engines of the host, and which of them may be busy on which GPU.

vLLM measures memory by what changes on the whole device while it starts, so on one GPU a load must not
overlap with another load or with the end of a neighbour. An engine that is to start or to end of its own
accord therefore waits until nobody else is busy on its GPUs; `pump` looks again after every change. What is
forced (a kill, a crash) does not wait.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
from collections.abc import Callable, Iterator

from vllmd.engines import ending
from vllmd.engines.diagnosis import Failure
from vllmd.engines.ground import Ground
from vllmd.engines.state import State
from vllmd.engines.supervisor import Supervisor
from vllmd.errors import Exhausted, NotFound
from vllmd.gpu.quarantine import Quarantines
from vllmd.planner.planning import Plan
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.journal import EngineRecord, Journal
from vllmd.scheduler.prospects import Prospects
from vllmd.scheduler.unproven import Unproven
from vllmd.scheduler.wish import Wish, make_id
from vllmd.tasks import Signal, spawn

MOST_PENDING = 100
"""How many engines may wait to be started."""

KEPT_ENDED = 50
"""How many engines that have ended stay listed."""
KEPT_REFUSED = 5
"""How many of them may be such as never had a process, of which whoever loaded them was told why."""

_BUSY = frozenset({State.STARTING, State.STOPPING, State.RECLAIMING})
_PASSING = frozenset({"NVML_UNAVAILABLE", "GPU_QUARANTINED", "GPU_LOST", "GPU_MEMORY_EXHAUSTED"})
_REPLAN_SECONDS = 2.0
_log = logging.getLogger(__name__)


class Placement:
    """The engines, started and stopped one at a time on each GPU.

    Args:
        ground: what they share.
        quarantines: GPUs on which nothing is placed.
        wanted: says who needs an engine; while nobody does it is not started again when it fails.
        ended: called with the id of an engine that has ended.
        journal: written before anything is spawned, and after each change.
    """

    def __init__(
        self,
        ground: Ground,
        quarantines: Quarantines,
        wanted: Callable[[Entry], str],
        ended: Callable[[str], None],
        journal: Journal,
    ) -> None:
        self.changed = Signal()
        self._journal = journal
        self._ground = ground
        self._quarantines = quarantines
        self._wanted = wanted
        self._ended = ended
        self._entries: collections.OrderedDict[str, Entry] = collections.OrderedDict()
        self._planning: set[str] = set()
        self.prospects = Prospects(ground, quarantines)
        self.unproven = Unproven(ground, quarantines, self.pump)
        self._settled: set[str] = set()
        """Those that have ended and whose end has been taken notice of."""
        self._waiting = False
        self._pumped = 0
        """How often anything changed: a plan is made of a look at the GPUs, and that may be outdated by now."""

    def entries(self) -> list[Entry]:
        """List all engines, the newest first; those that ended stay for a while."""
        return list(reversed(self._entries.values()))

    def alive(self) -> list[Entry]:
        """List the engines that have not ended."""
        return [entry for entry in self._entries.values() if not entry.supervisor.state.ended]

    def get(self, engine_id: str) -> Entry:
        """Get an engine.

        Raises:
            NotFound: there is none of that name.
        """
        entry = self._entries.get(engine_id)
        if entry is None:
            raise NotFound("ENGINE_NOT_FOUND", f"There is no engine {engine_id}.", engine=engine_id)
        return entry

    def sharing(self, wish: Wish) -> Entry | None:
        """Find an engine that is what a wish asks for, the newest first; `None` if there is none."""
        return next((entry for entry in self.entries() if entry.usable and entry.satisfies(wish)), None)

    def add(self, wish: Wish) -> Entry:
        """Make an engine for a wish; it starts when its GPUs are free.

        Raises:
            Exhausted: too many wait for theirs already.
        """
        self.refuse_if_full()
        # An engine that could not be reclaimed in full may have left its directory.
        taken = {*self._entries, *os.listdir(self._ground.root)}
        entry = self._enter(make_id(wish.model, taken), wish)
        ended = [key for key, old in self._entries.items() if old.supervisor.state.ended]
        refused = [key for key in ended if self._entries[key].supervisor.spawned is None]
        for key in {*ended[: max(0, len(ended) - KEPT_ENDED)], *refused[: max(0, len(refused) - KEPT_REFUSED)]}:
            del self._entries[key]
            self._settled.discard(key)
        self.pump()
        return entry

    def refuse_if_full(self) -> None:
        """Raise `Exhausted` if too many engines wait for their GPUs."""
        if sum(entry.supervisor.state is State.PENDING for entry in self._entries.values()) >= MOST_PENDING:
            message = f"{MOST_PENDING} engines wait for their GPUs already, which is the limit."
            raise Exhausted("QUEUE_FULL", message, limit=MOST_PENDING)

    def inherit(self, record: EngineRecord) -> Entry:
        """Enter an engine of an earlier daemon, with its past; its supervisor is yet to be told what is left of it."""
        entry = self._enter(record.id, record.wish)
        supervisor = entry.supervisor
        supervisor.plan, supervisor.adopted, supervisor.created = record.plan, True, record.created
        supervisor.spawned, supervisor.ready = record.spawned, record.ready
        supervisor.restarted = list(record.restarted)
        if record.plan is not None:
            self._ground.losses.expect(record.plan.gpus)
        return entry

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Start nothing meanwhile: what is still to be ended may hold memory on any GPU, and is no engine here."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
            self.pump()

    def _enter(self, engine_id: str, wish: Wish) -> Entry:
        supervisor = Supervisor(engine_id, wish.model, self._ground, self.pump, lambda: self._wanted(entry))
        entry = self._entries[engine_id] = Entry(supervisor, wish)
        return entry

    def ask_to_stop(self, entry: Entry, reason: str) -> None:
        """Stop an engine as soon as nobody else is busy on its GPUs."""
        if entry.usable:
            entry.stop_reason = reason
            self.pump()

    def pump(self) -> None:
        """Start and stop what was waiting for its GPUs; called after every change of any engine."""
        self._pumped += 1
        self._journal.touch()
        self.changed.notify()
        for entry in list(self._entries.values()):
            supervisor = entry.supervisor
            if supervisor.state.ended:
                self._settle(supervisor)
            elif entry.stop_reason is not None and not self._busy(supervisor.plan, supervisor):
                reason, entry.stop_reason = entry.stop_reason, None
                supervisor.stop(reason)
            elif supervisor.due and supervisor.id not in self._planning and not self._waiting:
                self._planning.add(supervisor.id)
                spawn(f"plan {supervisor.id}", self._plan_and_start(entry))

    def _settle(self, supervisor: Supervisor) -> None:
        """Take notice of an engine's end, once."""
        if supervisor.id not in self._settled:
            self._settled.add(supervisor.id)
            if supervisor.report is not None and not supervisor.report.verified:
                self.unproven.add(supervisor)
            self._ended(supervisor.id)

    def fail_lost(self) -> None:
        """End the engines of which a GPU is lost."""
        for supervisor in [entry.supervisor for entry in self.alive()]:
            failure = ending.gpu_failure(supervisor.plan, self._ground)
            if failure is not None and supervisor.state in (State.STARTING, State.READY):
                supervisor.fail(failure)

    def busy_gpus(self) -> frozenset[str]:
        """Name the GPUs on which an engine is being started, stopped or reclaimed."""
        supervisors = (entry.supervisor for entry in self._entries.values())
        return frozenset().union(*(_uuids(one.plan) for one in supervisors if one.state in _BUSY))

    def _busy(self, wanted: Plan | None, but: Supervisor | None) -> list[str]:
        """Name the other engines that are starting, stopping or being reclaimed on one of these GPUs."""
        gpus = _uuids(wanted)
        others = (entry.supervisor for entry in self._entries.values())
        return [
            other.id
            for other in others
            if other is not but and other.state in _BUSY and not gpus.isdisjoint(_uuids(other.plan))
        ]

    def in_the_way(self, wanted: Plan, but: Supervisor | None = None) -> list[str]:
        """Name the engines that keep a plan from being started now, other than the one that it is for.

        On the CPU, where each start takes all cores, one goes at a time.
        """
        if wanted.gpus:
            return self._busy(wanted, but)
        others = (entry.supervisor for entry in self._entries.values())
        return [one.id for one in others if one.state is State.STARTING and one.plan is not None and not one.plan.gpus]

    async def _plan_and_start(self, entry: Entry) -> None:
        """Plan with what is free now, and start unless somebody is busy there: then plan again later."""
        supervisor = entry.supervisor
        try:
            while supervisor.due:
                pumped = self._pumped
                planned = await self.prospects.plan(entry.wish, self.busy_gpus(), self.alive())
                if self._pumped != pumped:
                    continue
                if isinstance(planned, Failure) and self._passes(planned, supervisor):
                    await self.changed.wait(_REPLAN_SECONDS)
                elif isinstance(planned, Failure) and not self.may_fit_soon(planned):
                    supervisor.fail(planned)
                elif isinstance(planned, Plan) and not self.in_the_way(planned, supervisor):
                    supervisor.consider(planned)
                    await self._journal.save()
                    if self._pumped == pumped:
                        supervisor.start(planned)
                else:
                    await self.changed.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for this engine for ever
            _log.error("engine %s can't be planned", supervisor.id, exc_info=error)
            supervisor.fail(Failure("INTERNAL", "The daemon failed to plan this engine; its log says why."))
        finally:
            self._planning.discard(supervisor.id)

    def _passes(self, failure: Failure, supervisor: Supervisor) -> bool:
        """Tell whether what is in the way of a restart may go by itself: somebody has a lease, and the plan worked."""
        return supervisor.state is State.BACKOFF and failure.reason in _PASSING

    def may_fit_soon(self, failure: Failure) -> list[str]:
        """Name the engines on their way out that may give back what is missing."""
        ending = [entry.supervisor.id for entry in self._entries.values() if entry.supervisor.state.ending]
        return ending if failure.reason == "GPU_MEMORY_EXHAUSTED" else []


def _uuids(planned: Plan | None) -> frozenset[str]:
    return frozenset(gpu.uuid for gpu in planned.gpus) if planned is not None else frozenset()
