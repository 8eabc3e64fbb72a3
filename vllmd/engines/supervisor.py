"""The shell around one engine's life: does what `state` decides, and feeds it what happens.

An object for each engine, and the only writer of that engine's state. Everything that changes it goes
through `dispatch`, which is synchronous, so nothing can come between a decision and its record.
"""

from __future__ import annotations

import asyncio
import logging
import pathlib
import time
from collections.abc import Callable

from vllmd.engines import diagnosis, logs, reclaim, starting
from vllmd.engines.diagnosis import Failure
from vllmd.engines.directory import Owned
from vllmd.engines.ground import Ground
from vllmd.engines.launch import launch
from vllmd.engines.link import Link
from vllmd.engines.process import EngineProcess
from vllmd.engines.progress import LoadProgress, Phase
from vllmd.engines.state import Action, Event, Life, State, step
from vllmd.engines.tree_watch import TreeWatch
from vllmd.errors import Unavailable, VllmdError
from vllmd.gpu.inventory import Gpu
from vllmd.planner.plan import Plan
from vllmd.tasks import Signal
from vllmd.tasks import spawn as spawn_task
from vllmd.worker.processes import terminate
from vllmd.worker.protocol import EngineInfo
from vllmd.worker.tree import Tree

_log = logging.getLogger(__name__)
_HOUSEKEEPING_SECONDS = 5.0
_KEPT_LINES = 1000
_DIAGNOSED_LINES = 2000
"""An mp worker's traceback alone may take some hundred lines, and the first error is what counts."""


class Supervisor:
    """One engine.

    Args:
        engine_id: its name.
        model: what to load: a hub id or a directory.
        ground: what it shares with the other engines.
        changed: called after each change of its state.
    """

    def __init__(self, engine_id: str, model: str, ground: Ground, changed: Callable[[], None]) -> None:
        self.id = engine_id
        self.model = model
        self.life = Life()
        self.plan: Plan | None = None
        self.progress = LoadProgress(message="waiting")
        self.failure: Failure | None = None
        self.report: reclaim.Report | None = None
        self.link: Link | None = None
        self.info: EngineInfo | None = None
        self.created = time.time()
        self.spawned: float | None = None
        self.ready: float | None = None
        self.last_lines: list[str] = []
        self.changes = Signal()
        self._generated = 0
        self._ground = ground
        self._changed = changed
        self._owned: Owned | None = None
        self._process: EngineProcess | None = None
        self._watch: TreeWatch | None = None
        self._loaded: tuple[Gpu, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        gpus = ",".join(str(gpu.index) for gpu in self.plan.gpus) if self.plan else ""
        return f"<Engine {self.id} {self.state} gpus={gpus or '-'}>"

    @property
    def state(self) -> State:
        """Where it is in its life. A look at this decides nothing: by the next await it may be another."""
        return self.life.state

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there may be one."""
        return self._process.pid if self._process is not None and not self.state.ended else None

    @property
    def log(self) -> pathlib.Path | None:
        """Its log file, while there is one."""
        return self._owned.log if self._owned is not None and not self.state.ended else None

    @property
    def known_pids(self) -> frozenset[int]:
        """Processes seen in its tree."""
        return frozenset(identity.pid for identity in self._watch.seen) if self._watch is not None else frozenset()

    @property
    def generated_tokens(self) -> int:
        """Tokens generated since it became ready."""
        return self.link.generated_tokens if self.link is not None else self._generated

    def start(self, plan: Plan) -> None:
        """Start it as planned, on GPUs that nobody else is busy with."""
        if self.state is State.PENDING:
            self.plan = plan
            self.dispatch(Event.START, "its GPUs are free" if plan.gpus else "it runs on the CPU")

    def fail(self, failure: Failure) -> None:
        """Give up on it: it can't be started."""
        self.dispatch(Event.FAIL, failure.message, failure)

    def stop(self, reason: str, force: bool = False) -> None:
        """End it, with the grace period unless *force*."""
        self.dispatch(Event.KILL if force else Event.STOP, reason)

    async def ended(self) -> None:
        """Wait until it has ended, well or not."""
        while not self.state.ended:
            await self.changes.wait()

    def error(self) -> VllmdError:
        """Say why it does not serve any more, as an error for a client."""
        if self.failure is not None:
            return diagnosis.to_error(self.failure, self.id)
        ending = (State.STOPPING, State.RECLAIMING, State.STOPPED)
        why = next((f": {step.reason}" for step in self.life.story if step.new in ending), "")
        return Unavailable("ENGINE_STOPPED", f"Engine {self.id} was stopped{why}.", engine=self.id)

    def dispatch(self, event: Event, reason: str, failure: Failure | None = None) -> None:
        """Let something happen to the engine: the one place where its state changes."""
        before = self.life
        self.life, actions = step(before, event, reason, time.time())
        if self.life is before:
            return
        _log.info("engine %s: %s -> %s: %s", self.id, before.state, self.life.state, reason)
        if Action.RECORD_FAILURE in actions and self.failure is None:
            self.failure = failure
        for action in actions:
            self._do(action, reason)
        if self.state.ended and self.report is None:
            self.report = reclaim.NOTHING
        self.changes.notify()
        self._changed()

    def _do(self, action: Action, reason: str) -> None:
        match action:
            case Action.SPAWN:
                self._spawn()
            case Action.TERMINATE:
                self._close_link()
                assert self._process is not None
                self._tasks.append(spawn_task(f"look at {self.id}", self._look()))
                terminate(self._process.identity)
                self._timer = asyncio.get_running_loop().call_later(
                    self._ground.stop_grace, self.dispatch, Event.GRACE_EXPIRED, "the grace period is over"
                )
            case Action.RECLAIM:
                self._let_go()
                self._tasks = [spawn_task(f"reclaim {self.id}", self._reclaim())]
            case Action.RECORD_FAILURE:
                pass  # done before any other action, which may need it

    async def _look(self) -> None:
        """Note what its GPUs hold while it is still loaded: a clean shutdown gives that back before the reclaim."""
        assert self.plan is not None
        if self.plan.gpus:
            uuids = frozenset(gpu.uuid for gpu in self.plan.gpus)
            self._loaded = (await self._ground.monitor.snapshot()).named(uuids)

    def _spawn(self) -> None:
        """Start the processes; whatever goes wrong is a failure of the engine, told after this transition."""
        assert self.plan is not None
        self.spawned = time.time()
        try:
            self._owned, self._process = launch(self.id, self.model, self.plan, self._ground)
        except OSError as error:
            failure = Failure("SPAWN_FAILED", f"The engine's worker can't be started: {error}.")
            asyncio.get_running_loop().call_soon(self.fail, failure)
            return
        self.progress = LoadProgress(Phase.SPAWNING, message="starting processes")
        self._watch = TreeWatch(self._process, self._worker_ended, self._part_ended)
        self._tasks = [
            spawn_task(f"start {self.id}", self._start(self._owned.path)),
            spawn_task(f"housekeeping {self.id}", self._keep_house(self._owned.log)),
        ]

    async def _start(self, directory: pathlib.Path) -> None:
        """Follow the start until the worker listens, then link up with it."""
        try:
            async with asyncio.timeout(self._ground.load_timeout):
                self.link = await starting.follow(directory, self._advance, self._link_closed)
        except starting.StartFailed as error:
            self._start_failed(error.errors, "ended")
        except TimeoutError:
            seconds = int(self._ground.load_timeout)
            message = f"The engine was not ready after {seconds} s ({self.progress.message}). Raise --load-timeout."
            self.fail(Failure("START_TIMEOUT", message, tuple(self._lines(diagnosis.QUOTED_LINES))))
        else:
            self.info = self.link.hello.engine
            assert self._watch is not None
            await self._watch.watch_parts()
            self.ready = time.time()
            self.progress = LoadProgress(Phase.DONE, 1.0, "loaded")
            self.dispatch(Event.LOADED, f"loaded in {self.ready - (self.spawned or self.ready):.1f} s")

    def _advance(self, progress: LoadProgress) -> None:
        if progress != self.progress:
            self.progress = progress
            self.changes.notify()

    def _worker_ended(self, how: str) -> None:
        match self.state:
            case State.STARTING:
                self._start_failed((), how)
            case State.STOPPING:
                self.dispatch(Event.EXITED, f"its worker {how}")
            case _:
                self._died(f"its worker {how}")

    def _part_ended(self, what: str) -> None:
        """Tell of the death of a part, unless the whole has died with its worker, which this part went with."""
        assert self._process is not None
        how = self._process.how_it_ended()
        self._died(what if how is None else f"its worker {how}")

    def _start_failed(self, errors: tuple[str, ...], how: str) -> None:
        assert self._owned is not None
        errors = errors or starting.reported_errors(self._owned.path)
        self.fail(diagnosis.load_failure(self._lines(_DIAGNOSED_LINES), errors, how))

    def _link_closed(self, why: str) -> None:
        self._part_ended(why)

    def _died(self, what: str) -> None:
        failure = diagnosis.death(self._lines(_DIAGNOSED_LINES), what)
        self.dispatch(Event.FAIL, failure.message, failure)

    def _lines(self, count: int) -> list[str]:
        return logs.tail(self._owned.log, count) if self._owned is not None else []

    def _close_link(self) -> None:
        if self.link is not None:
            self.link.close(self.error())
            self._generated = self.link.generated_tokens
            self.link = None  # with all that was still to be sent

    def _let_go(self) -> None:
        """Stop everything that waits for something from the engine."""
        self._close_link()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        if self._watch is not None:
            self._watch.close()
        if self._timer is not None:
            self._timer.cancel()

    async def _reclaim(self) -> None:
        assert self.plan is not None
        cgroup = self._ground.containment.path(self.id)
        tree = (
            self._process.tree
            if self._process is not None
            else Tree(self.id, None, cgroup, self._ground.root / self.id)
        )
        directory = self._ground.root / self.id
        self.last_lines = self._lines(_KEPT_LINES)
        remains = reclaim.Remains(tree, directory, tuple(self.known_pids), self.plan.gpus, self._loaded)
        try:
            report = await reclaim.reclaim(remains, self._ground.monitor, self._ground.reclaim_timeout)
        except Exception as error:  # noqa: BLE001 - whatever it is, the engine must not stay RECLAIMING for ever
            _log.error("engine %s can't be reclaimed", self.id, exc_info=error)
            report = reclaim.Report(False, f"Not proven to be gone: {type(error).__name__}: {error}.")
        self.report = report
        if self._process is not None:
            self._process.how_it_ended()
        if self._owned is not None:
            self._owned.disown()
        if report.verified:
            self.dispatch(Event.RECLAIMED, report.summary)
        else:
            self.dispatch(Event.UNRECLAIMED, report.summary, Failure("RECLAIM_FAILED", report.summary))

    async def _keep_house(self, log: pathlib.Path) -> None:
        """Keep the log from filling the disk."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            await asyncio.to_thread(logs.bound, log, self._ground.log_limit_bytes)
