"""A host in this process: the real scheduler over fake GPUs and fake engines, which are real processes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fakes.fake_gpus import FakeGpus
from tests.fakes.rules import ground as ground_of
from vllmd.engines.containment import Containment
from vllmd.engines.restarts import Policy
from vllmd.engines.state import State
from vllmd.engines.streams import Stream
from vllmd.events import Events
from vllmd.gpu.inventory import Gpu
from vllmd.gpu.losses import Losses
from vllmd.gpu.monitor import GpuMonitor
from vllmd.gpu.quarantine import Quarantines
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.leases import Lease
from vllmd.scheduler.scheduler import Scheduler
from vllmd.scheduler.wish import Wish
from vllmd.tasks import Signal

QUICK = {"fake_load_seconds": 0, "fake_shared_memory_bytes": 0}
HANGING = QUICK | {"fake_hang_phase": "compiling"}
DEADLINE_SECONDS = 20.0
"""For what takes a fraction of a second on a host that is not busy."""


def wish(model: str = "fake/model", **engine_args: Any) -> Wish:
    """A wish for a fake engine that is loaded at once, unless *engine_args* say otherwise."""
    return Wish(model, engine_args=QUICK | engine_args)


def hanging(model: str = "fake/hanging", **engine_args: Any) -> Wish:
    """A wish for a fake engine whose start never ends."""
    return Wish(model, engine_args=HANGING | engine_args)


async def until(changed: Signal, condition: Callable[[], object]) -> None:
    """Wait for something that is told by a signal."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await changed.wait()


async def eventually(condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> float:
    """Wait for something that nobody tells of, at most *seconds*; returns how long it took."""
    start = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
    return time.monotonic() - start


async def finish(stream: Stream) -> int:
    """Read a generation to its end; returns how many tokens it had."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await stream.next()).finish_reason is None:
            pass
    return stream.completion_tokens


class Host:
    """A scheduler with its engines; leaving ends them, and checks that nothing of them is left."""

    def __init__(self, *gpus: Gpu, **ground: Any) -> None:
        # Not below pytest's directory: the path of a Unix socket has 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="vd-"))
        self.gpus = FakeGpus(*gpus)
        self.monitor = GpuMonitor(self.gpus)
        events = Events()
        defaults = {
            "events": events,
            "losses": Losses(events),
            "root": self.directory / "e",
            "cache": self.directory / "cache",
            "python": Path(sys.executable),
            "backend": "fake",
            "containment": Containment(None),
            "monitor": self.monitor,
            "version": "0",
            "load_timeout": 60.0,
            "stop_grace": 5.0,
            "reclaim_timeout": 5.0,
            "adoption_timeout": 30.0,
            "log_limit_bytes": 1 << 20,
            "restarts": Policy(limit=0),
        }
        self.ground = ground_of(**{**defaults, **ground})
        self.ground.root.mkdir()
        self.quarantines = Quarantines(self.ground.events)
        self.scheduler = Scheduler(self.ground, self.quarantines)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, error: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gpus.answering.set()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self.scheduler.drain(0.0, lambda: True)
            # By its directory a later daemon knows an engine that is not proven to be gone.
            left = [one for one in self.ground.root.iterdir() if one.name not in self.scheduler.engines.unproven.ids]
        finally:
            self.monitor.close()
            shutil.rmtree(self.directory)
        assert error is not None or not left

    async def load(self, wanted: Wish, ttl: float | None = None, held: bool = False) -> tuple[Entry, Lease]:
        """Load a model, as LoadModel does."""
        with self.scheduler.loading(wanted) as entry:
            await self.ready(entry)
            return entry, self.scheduler.grant(entry, ttl, held)

    async def ready(self, entry: Entry) -> None:
        """Wait until an engine is ready."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await self.scheduler.until_ready(entry, 1.0):
                pass

    @contextlib.asynccontextmanager
    async def starting(self, wanted: Wish) -> AsyncIterator[Entry]:
        """Wait for a start until it has processes, and give it up when left."""
        with self.scheduler.loading(wanted) as entry:
            await self.state(entry, State.STARTING)
            yield entry

    async def state(self, entry: Entry, *states: State) -> None:
        """Wait until an engine is in one of *states*."""
        await until(self.scheduler.engines.changed, lambda: entry.supervisor.state in states)
