"""A supervised fake engine, which is real processes, and what it told."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fakes.processes import processes_of
from vllmd.engines.ground import Ground
from vllmd.engines.progress import Phase
from vllmd.engines.reclaim import NOT_BACK
from vllmd.engines.state import State
from vllmd.engines.streams import Stream
from vllmd.engines.supervisor import Supervisor
from vllmd.errors import EngineFailed, Unavailable
from vllmd.gpu.inventory import Gpu
from vllmd.planner.choice import Choice
from vllmd.planner.planning import Plan
from vllmd.worker.processes import Identity, processes
from vllmd.worker.protocol import TextPrompt

DEADLINE_SECONDS = 20.0
QUICK = {"fake_load_seconds": 0.02}


class Engine:
    """A supervised engine, and what it told."""

    def __init__(self, engine_id: str, ground: Ground) -> None:
        self.id = engine_id
        self.ground = ground
        self.changes = 0
        self.phases: list[Phase] = []
        self.supervisor = Supervisor(engine_id, "org/model", self.ground, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def start(self, gpus: tuple[Gpu, ...] = (), **engine_args: Any) -> None:
        """Start it on GPUs, or on the CPU."""
        choices = (Choice(name, value, "client", "") for name, value in (QUICK | engine_args).items())
        self.supervisor.start(Plan(tuple(choices), gpus))

    async def reaches(self, state: State) -> None:
        """Wait until it is in a state."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.supervisor.state is not state:
                self.phases.append(self.supervisor.progress.phase)
                assert not self.supervisor.state.ended, self.supervisor.life.story
                await self.supervisor.changes.wait()

    async def ended(self) -> State:
        """Wait until it has ended; checks that nothing of it is left."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.supervisor.ended()
        cgroup = self.ground.containment.path(self.id)
        assert processes_of(self.id) == []
        report = self.supervisor.report
        kept = [self.id] if report is not None and NOT_BACK in report.summary else []
        assert [one.name for one in self.ground.root.iterdir()] == kept
        assert cgroup is None or not cgroup.exists()
        return self.supervisor.state

    def pid(self, name: str) -> Identity:
        """The process of a name in its tree."""
        return next(s.identity for s in processes() if s.name == name and s.identity.pid in self.supervisor.known_pids)

    def stream(self) -> Stream:
        """Start a generation that goes on for a long time."""
        assert self.supervisor.link is not None
        return self.supervisor.link.start(TextPrompt("hi"), {"max_tokens": 4000})

    @property
    def states(self) -> list[State]:
        """The states that it went through."""
        return [transition.new for transition in self.supervisor.life.story]


async def error_of(stream: Stream) -> Exception:
    """Read a generation to its error."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        try:
            while True:
                await stream.next()
        except (Unavailable, EngineFailed) as error:
            return error
