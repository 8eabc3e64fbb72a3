"""Engines run on the daemon's kind of loop; uvloop treats descriptors and pidfds in its own way."""

from __future__ import annotations

import asyncio
import pathlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvloop

from tests.fakes.held_gpus import HeldGpus
from tests.fakes.rules import ground
from tests.fakes.supervised import DEADLINE_SECONDS, Engine
from vllmd.engines.containment import Containment
from vllmd.engines.ground import Ground
from vllmd.gpu.monitor import GpuMonitor


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops that the tests in this folder run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def gpus() -> HeldGpus:
    """GPUs that nobody is on yet."""
    return HeldGpus()


@pytest.fixture
def monitor(gpus: HeldGpus) -> Iterator[GpuMonitor]:
    """Looks at them."""
    monitor = GpuMonitor(gpus)
    yield monitor
    monitor.close()


@pytest.fixture
def root(runtime: pathlib.Path) -> pathlib.Path:
    """Holds the engines' directories."""
    root = runtime / "e"
    root.mkdir()
    return root


MakeGround = Callable[..., Ground]


@pytest.fixture
def make_ground(root: pathlib.Path, containment: Containment, monitor: GpuMonitor) -> MakeGround:
    """Makes the ground of fake engines, in either kind of containment."""

    def make(**changes: Any) -> Ground:
        usual: dict[str, Any] = {
            "root": root,
            "cache": root.parent / "cache",
            "python": pathlib.Path(sys.executable),
            "backend": "fake",
            "containment": containment,
            "monitor": monitor,
            "version": "0",
            "load_timeout": 30.0,
            "stop_grace": 10.0,
            "reclaim_timeout": 5.0,
            "adoption_timeout": 60.0,
            "log_limit_bytes": 1 << 20,
        }
        return ground(**usual | changes)

    return make


MakeEngine = Callable[..., Engine]


@pytest.fixture
async def make_engine(make_ground: MakeGround, engine_id: str) -> AsyncIterator[MakeEngine]:
    """Makes engines that have not been started; those that a test leaves running are ended."""
    made: list[Engine] = []

    def make(**ground: Any) -> Engine:
        made.append(Engine(engine_id, make_ground(**ground)))
        return made[-1]

    yield make
    for engine in made:
        engine.supervisor.stop("the test is over", force=True)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await engine.supervisor.ended()


@pytest.fixture
async def engine(make_engine: MakeEngine) -> Engine:
    """An engine that has not been started."""
    return make_engine()
