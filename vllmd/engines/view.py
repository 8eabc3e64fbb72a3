"""What may be seen of an engine by anybody; only its supervisor changes it."""

from __future__ import annotations

import pathlib
import time

from vllmd.engines import diagnosis, reclaim, restarts
from vllmd.engines.diagnosis import Failure
from vllmd.engines.incarnation import Incarnation
from vllmd.engines.link import Link
from vllmd.engines.progress import LoadProgress
from vllmd.engines.state import Life, State
from vllmd.errors import Unavailable, VllmdError
from vllmd.planner.planning import Plan
from vllmd.tasks import Signal
from vllmd.worker.report import EngineInfo
from vllmd.worker.tree import Tree


class EngineView:
    """One engine, as it is at this moment. A look at it decides nothing: by the next await it may be another.

    Args:
        engine_id: its name.
        model: what it loads: a hub id or a directory.
    """

    def __init__(self, engine_id: str, model: str) -> None:
        self.id = engine_id
        self.model = model
        self.life = Life()
        self.plan: Plan | None = None
        self.progress = LoadProgress(message="waiting")
        self.failure: Failure | None = None
        self.report: reclaim.Report | None = None
        self.remains: reclaim.Remains | None = None
        """What its last end had to look for, for whoever has to try that again."""
        self.info: EngineInfo | None = None
        self.created = time.time()
        self.spawned: float | None = None
        self.ready: float | None = None
        self.adopted = False
        self.restarted: list[float] = []
        """When it was started again after failures, in seconds since the epoch."""
        self.disturbances = 0
        """How often its start was disturbed by a neighbour on its GPU."""
        self.next_start: float | None = None
        """When it will be, while it waits for that."""
        self.last_lines: list[str] = []
        self.changes = Signal()
        self._run: Incarnation | None = None
        self._generated = 0
        """Tokens of earlier incarnations."""
        self.restart: restarts.Restart | None = None
        """The start after a failure that was decided on and not made yet."""
        self._is_due = True
        """True once it only waits for GPUs."""
        self._handed_over: VllmdError | None = None
        """Set once a later daemon may take it over: nothing happens to it here any more. For who waits for it."""

    def __repr__(self) -> str:
        gpus = ",".join(str(gpu.index) for gpu in self.plan.gpus) if self.plan else ""
        return f"<Engine {self.id} {self.state} gpus={gpus or '-'}>"

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self.life.state

    @property
    def link(self) -> Link | None:
        """What requests go through, while there is one."""
        return self._run.link if self._run is not None else None

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there may be one."""
        return self._run.process.pid if self._run is not None else None

    @property
    def log(self) -> pathlib.Path | None:
        """Its log file, while there is one."""
        return self._run.owned.log if self._run is not None else None

    @property
    def known_pids(self) -> frozenset[int]:
        """Processes seen in its tree."""
        return frozenset(identity.pid for identity in self._run.seen) if self._run is not None else frozenset()

    @property
    def tree(self) -> Tree | None:
        """Its processes, while there may be any."""
        return self._run.process.tree if self._run is not None else None

    @property
    def generated_tokens(self) -> int:
        """Tokens generated since it became ready."""
        return self._generated + (self._run.generated_tokens if self._run is not None else 0)

    @property
    def restarting(self) -> bool:
        """True while it is on its way to serve again after a failure."""
        waits = self.state in (State.RECLAIMING, State.BACKOFF) and self.restart is not None
        return not self.life.unwanted and (waits or (self.state is State.STARTING and bool(self.restarted)))

    @property
    def due(self) -> bool:
        """True if it waits for GPUs to be started, for the first time or again."""
        return self.state in (State.PENDING, State.BACKOFF) and self._is_due and self._handed_over is None

    async def ended(self) -> None:
        """Wait until it has ended, well or not.

        Raises:
            VllmdError: it was handed over meanwhile, and its end is a later daemon's to tell.
        """
        while not self.state.ended:
            if self._handed_over is not None:
                raise self._handed_over
            await self.changes.wait()

    def error(self, *, to_load: bool = False) -> VllmdError:
        """Say why it does not serve, as an error for a client.

        Args:
            to_load: whether the client wants the model, by this engine or another one: then what has failed may pass.
        """
        if self.restarting:
            wait = max(1.0, (self.next_start or time.time()) - time.time())
            message = f"Engine {self.id} failed and is being started again."
            return Unavailable("ENGINE_RESTARTING", message, wait, engine=self.id)
        if self.failure is not None:
            return diagnosis.to_error(self.failure, self.id, final=not to_load)
        ending = (State.STOPPING, State.RECLAIMING, State.STOPPED)
        why = next((f": {step.reason}" for step in self.life.story if step.new in ending), "")
        return Unavailable("ENGINE_STOPPED", f"Engine {self.id} was stopped{why}.", None, engine=self.id)

    def last_error(self) -> VllmdError:
        """Say to those whose generations end with it what happened, whatever comes after."""
        if self.failure is None:
            return self.error()
        return diagnosis.to_error(self.failure, self.id, final=self.restart is None)
