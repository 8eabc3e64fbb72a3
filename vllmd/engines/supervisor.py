"""The shell around one engine's life: does what `state` decides, and feeds it what happens.

An object for each engine, and the only writer of that engine's state. Everything that changes it goes
through `dispatch`, which is synchronous, so nothing can come between a decision and its record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from vllmd.engines import diagnosis, ending, loaded, reclaim, restarts
from vllmd.engines.diagnosis import Failure
from vllmd.engines.ground import Ground
from vllmd.engines.incarnation import Incarnation
from vllmd.engines.launch import launch
from vllmd.engines.predecessor import Remnant, Survivor
from vllmd.engines.process import EngineProcess
from vllmd.engines.progress import LoadProgress, Phase
from vllmd.engines.state import Action, Event, State, step
from vllmd.engines.view import EngineView
from vllmd.errors import VllmdError
from vllmd.events import Kind
from vllmd.planner.planning import Plan
from vllmd.tasks import spawn

_KEPT_LINES = 1000


class Supervisor(EngineView):
    """One engine.

    Args:
        engine_id: its name.
        model: what to load: a hub id or a directory.
        ground: what it shares with the other engines.
        changed: called after each change of its state.
        wanted: says who has a lease on it or waits for it; while nobody does it is not started again.
    """

    def __init__(
        self,
        engine_id: str,
        model: str,
        ground: Ground,
        changed: Callable[[], None],
        wanted: Callable[[], str] = lambda: "",
    ) -> None:
        super().__init__(engine_id, model)
        self._ground = ground
        self._changed = changed
        self._wanted = wanted
        self._timer: asyncio.TimerHandle | None = None
        self._remnant: Remnant | None = None

    def start(self, plan: Plan) -> None:
        """Start it as planned, on GPUs that nobody else is busy with."""
        if self.due:
            self.plan = plan
            self.dispatch(Event.START, "its GPUs are free" if plan.gpus else "it runs on the CPU")

    def consider(self, plan: Plan) -> None:
        """Note the plan that it is about to be started by, so that it is written down before anything is spawned."""
        self.plan = plan

    def adopt(self, survivor: Survivor, why: str) -> None:
        """Take over the processes of an engine that an earlier daemon started; its plan and its past are set."""
        process = EngineProcess(None, survivor.tree)
        self._run = Incarnation(self.id, survivor.owned, process, self._ground, self)
        was = "serving" if self.ready is not None else "starting"
        self._tell(Kind.ADOPTION, f"An engine that was {was} is taken over.", why, pids=[process.pid])
        self.dispatch(Event.ADOPT, "taken over from an earlier daemon")

    def recover(self, remnant: Remnant, failure: Failure, due: float | None, why: str) -> None:
        """Go on with an engine that an earlier daemon started and that does not run; its plan and its past are set.

        Args:
            remnant: what may be left of it, which goes before it is started again.
            failure: why it does not run.
            due: when it was to be started again, in seconds since the epoch; `None` if that was not decided yet.
            why: it is gone on with.
        """
        self._remnant = remnant
        self._tell(Kind.ADOPTION, "An engine that does not run is taken over.", why, failure.message)
        self.restart = ending.restart(self, failure, self._ground, self._wanted())
        if self.restart is not None and due is not None:
            self.restart = restarts.resume(self.restart, due, time.time())
        self.dispatch(Event.RECOVER, failure.message, failure)

    def hand_over(self, error: VllmdError) -> None:
        """Let go of its processes without ending them: whoever has the journal takes them over.

        From here on nothing happens to it any more, whatever those do who still hold on to it.
        """
        self._handed_over = error
        self._cancel_timer()
        if self._run is not None:
            self._run.let_go(error)
            self._run.owned.disown()
            self._run.process.let_go()
        if self._remnant is not None:
            self._remnant.disown()
        self.changes.notify()

    def fail(self, failure: Failure) -> None:
        """Give up on it: it can't be started, or has failed."""
        self._fail(failure)

    def stop(self, reason: str, force: bool = False) -> None:
        """End it, with the grace period unless *force*."""
        self.dispatch(Event.KILL if force else Event.STOP, reason)

    def dispatch(self, event: Event, reason: str, failure: Failure | None = None) -> None:
        """Let something happen to the engine: the one place where its state changes."""
        if self._handed_over is not None:
            return
        before = self.life
        self.life, actions = step(before, event, reason, time.time())
        if self.life.state is before.state:
            return
        self._tell(Kind.ENGINE, f"{before.state} -> {self.state}", reason)
        if Action.RECORD_FAILURE in actions:
            self.failure = failure
        for action in actions:
            self._do(action)
        if self.state.ended:
            self._cancel_timer()
            self.next_start, self.report = None, self.report or reclaim.NOTHING
        self.changes.notify()
        self._changed()

    def _tell(self, kind: Kind, message: str, *reasons: str, pids: Sequence[int] = ()) -> None:
        gpus = [gpu.uuid for gpu in self.plan.gpus] if self.plan is not None else ()
        record = self._ground.events.record
        record(kind, message, reasons=reasons, engine=self.id, gpus=gpus, pids=pids, model=self.model)

    def _do(self, action: Action) -> None:
        match action:
            case Action.SPAWN:
                self._spawn()
            case Action.TAKE_OVER:
                pass  # `adopt` has the processes
            case Action.TERMINATE:
                assert self._run is not None
                assert self.plan is not None
                self._run.terminate(self.error(), frozenset(gpu.uuid for gpu in self.plan.gpus))
                later, grace = asyncio.get_running_loop().call_later, self._ground.rules.stop_grace
                self._timer = later(grace, self.dispatch, Event.GRACE_EXPIRED, "the grace period is over")
            case Action.RECLAIM:
                self._cancel_timer()
                if self._run is not None:
                    self._run.let_go(self.last_error())
                spawn(f"reclaim {self.id}", self._reclaim())
            case Action.WAIT:
                self._wait()
            case Action.RECORD_FAILURE:
                pass  # done before any other action, which may need it

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What begins.

    def _spawn(self) -> None:
        """Start the processes; whatever goes wrong is a failure of the engine, told after this transition."""
        assert self.plan is not None
        self.spawned, self.ready, self.next_start, self.info = time.time(), None, None, None
        if self.restart is not None:
            if self.restart.counts:
                self.restarted.append(self.spawned)
            self.restart = None
        expected = [self._ground.ledger.expectation(gpu) for gpu in self.plan.gpus]
        self._ground.peaks.begin(self.id, self.plan.gpus)
        try:
            owned, process = launch(self.id, self.model, self.plan, expected, self._ground)
        except OSError as error:
            failure = diagnosis.not_spawned(error, self._ground.root)
            asyncio.get_running_loop().call_soon(self._fail, failure)
            return
        self.progress = LoadProgress(Phase.SPAWNING, message="starting processes")
        self._run = Incarnation(self.id, owned, process, self._ground, self)

    # What its incarnation tells: see `incarnation.Told`.

    def advanced(self, progress: LoadProgress) -> None:
        """Show how far the start is."""
        if progress != self.progress:
            self.progress = progress
            self.changes.notify()

    def loaded(self) -> None:
        """It serves; what it holds is noted, for others' reclaims, and what its load took, for later plans."""
        assert self._run is not None
        assert self._run.info is not None
        assert self.plan is not None
        self.info = self._run.info
        # One that is ready already was loaded by an earlier daemon, which has taken notice of that.
        told = self.info if self.ready is None else None
        noted = loaded.note(self.id, self.model, self.known_pids, self.plan, told, self._ground)
        spawn(f"weigh {self.id}", noted)
        how = "linked up again" if self.ready is not None else f"loaded in {time.time() - (self.spawned or 0):.1f} s"
        self.ready = self.ready or time.time()
        self.progress = LoadProgress(Phase.DONE, 1.0, "loaded")
        self.failure = None
        self.dispatch(Event.LOADED, how)

    def not_loaded(self, errors: tuple[str, ...]) -> None:
        """The start failed, as its worker says."""
        self._start_failed(errors, "ended")

    def late(self) -> None:
        """The start took too long."""
        lines = self._lines(diagnosis.QUOTED_LINES)
        self._fail(diagnosis.late(lines, self._ground.rules.load_timeout, self.progress.message))

    def worker_ended(self, how: str) -> None:
        """What that means depends on what it was busy with."""
        match self.state:
            case State.STARTING:
                assert self._run is not None
                self._start_failed(self._run.reported_errors(), how)
            case State.STOPPING:
                self.dispatch(Event.EXITED, f"its worker {how}")
            case _:
                self._died(f"its worker {how}")

    def broke(self, what: str) -> None:
        """Tell of the death of a part, unless the whole has died with its worker, which this part went with."""
        assert self._run is not None
        how = self._run.process.how_it_ended()
        self._died(what if how is None else f"its worker {how}")

    def stalled(self, why: str) -> None:
        """It hangs: only its end helps."""
        self._tell(Kind.STALL, "The engine hangs and is killed.", why)
        self._fail(diagnosis.stall(self._lines(diagnosis.QUOTED_LINES), why))

    # What fails.

    def _start_failed(self, errors: tuple[str, ...], how: str) -> None:
        self._fail(diagnosis.load_failure(self._lines(diagnosis.READ_LINES), errors, how))

    def _died(self, what: str) -> None:
        self._fail(diagnosis.death(self._lines(diagnosis.READ_LINES), what))

    def _fail(self, failure: Failure) -> None:
        """Decide whether it will be started again, before anybody is told that it failed."""
        if self.state in (State.STARTING, State.READY):
            self.restart = ending.restart(self, failure, self._ground, self._wanted())
        self.dispatch(Event.FAIL, failure.message, failure)

    def _wait(self) -> None:
        """Wait for the time of the next start, then for its GPUs."""
        assert self.restart is not None
        delay = self.restart.delay_seconds
        self.next_start = time.time() + delay
        self.progress = LoadProgress(message=f"starts again in {delay:.0f} s")
        self._is_due = False
        self._timer = asyncio.get_running_loop().call_later(delay, self._become_due)

    def _become_due(self) -> None:
        self._is_due = True
        self._changed()

    def _lines(self, count: int) -> list[str]:
        source = self._run or self._remnant
        return source.lines(count) if source is not None else []

    # What ends.

    async def _reclaim(self) -> None:
        assert self.plan is not None
        self.last_lines = self._lines(_KEPT_LINES)
        left = self._remnant.remains if self._remnant is not None else None
        self.remains = left or ending.remains(self.id, self._run, self.plan, self._ground)
        self.report = report = await ending.end(self.remains, self._ground)
        if self._run is not None:
            self._generated += self._run.generated_tokens
            self._run.disown()
            self._run = None
        if self._remnant is not None:
            self._remnant.disown()
            self._remnant = None
        self.restart = ending.still(self, report, self._ground, self._wanted())
        if not report.verified:
            failure = ending.gpu_failure(self.plan, self._ground) or Failure("RECLAIM_FAILED", report.summary)
            self.dispatch(Event.UNRECLAIMED, report.summary, failure)
        elif self.restart is not None:
            self.dispatch(Event.RETRY, report.summary)
        else:
            self.dispatch(Event.RECLAIMED, report.summary)
