from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from tests.engines.conftest import MakeEngine
from tests.fakes.fake_gpus import GIB
from tests.fakes.held_gpus import HeldGpus
from tests.fakes.processes import eventually, lives
from tests.fakes.supervised import Engine, error_of
from vllmd.engines import ending
from vllmd.engines.reclaim import GpuReclaim
from vllmd.engines.state import State
from vllmd.errors import Unavailable
from vllmd.gpu.monitor import GpuMonitor


@pytest.mark.parametrize("victim", ["worker", "VLLM::EngineCor", "VLLM::Worker_TP"])
async def test_death_of_any_process_is_the_engines(engine: Engine, victim: str) -> None:
    """Streams end UNAVAILABLE with the reason, and the rest of the tree goes too, even what left the session."""
    engine.start(fake_workers=2, fake_escape=True, fake_leave_core=True)
    await engine.reaches(State.READY)
    streams = [engine.stream() for _ in range(3)]
    pid = engine.supervisor.pid if victim == "worker" else engine.pid(victim).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    errors = [await error_of(stream) for stream in streams]
    state = await engine.ended()
    supervisor = engine.supervisor

    assert state is State.FAILED
    assert engine.states == [State.STARTING, State.READY, State.RECLAIMING, State.FAILED]
    assert {type(error) for error in errors} == {Unavailable}
    assert supervisor.failure is not None
    assert supervisor.failure.reason == "ENGINE_DIED"
    assert {str(error) for error in errors} == {supervisor.failure.message}
    assert isinstance(supervisor.error(), Unavailable)
    assert supervisor.report is not None
    assert supervisor.report.verified
    assert len(supervisor.report.pids) == 4
    assert supervisor.report.killed in (2, 3, 4)  # who was killed first may not be gone yet when the rest is listed


@pytest.mark.parametrize(
    ("trait", "least"), [({"fake_ignore_sigterm": True}, 0.5), ({"fake_leave_core": True, "fake_escape": True}, 0.0)]
)
async def test_engine_that_does_not_end_cleanly_is_killed(
    make_engine: MakeEngine, trait: dict[str, Any], least: float
) -> None:
    """It ignores SIGTERM until the grace period is over, or ends and leaves its core behind."""
    engine = make_engine(stop_grace=0.5)
    engine.start(**trait)
    await engine.reaches(State.READY)
    core = engine.pid("VLLM::EngineCor")
    start = time.monotonic()
    engine.supervisor.stop("it is not needed any more")
    state = await engine.ended()

    assert state is State.STOPPED
    assert State.STOPPING in engine.states
    assert not lives(core)
    assert engine.supervisor.report is not None
    assert core.pid in engine.supervisor.report.pids
    assert engine.supervisor.report.killed >= 1
    assert least <= time.monotonic() - start < 10


async def test_stop_that_hurries_does_not_ask(engine: Engine) -> None:
    """Generations end with the reason."""
    engine.start(fake_ignore_sigterm=True)
    await engine.reaches(State.READY)
    stream = engine.stream()
    engine.supervisor.stop("an operator stopped it", force=True)
    error = await error_of(stream)
    state = await engine.ended()

    assert state is State.STOPPED
    assert State.STOPPING not in engine.states
    assert str(error) == f"Engine {engine.id} was stopped: an operator stopped it."


async def test_engine_is_gone_only_once_its_memory_is(
    make_engine: MakeEngine, gpus: HeldGpus, monitor: GpuMonitor
) -> None:
    """With its processes gone it waits for NVML, and one whose memory stays away is not stopped but failed."""
    engine = make_engine(reclaim_timeout=0.5)
    baseline = (await monitor.snapshot()).gpus
    engine.start(baseline)
    await engine.reaches(State.READY)
    gpus.hold("GPU-0", engine.pid("VLLM::EngineCor"))
    gpus.driver_bytes += 1 << 30
    engine.supervisor.stop("it is not needed any more")
    state = await engine.ended()
    supervisor = engine.supervisor

    assert state is State.FAILED
    assert supervisor.failure is not None
    assert supervisor.failure.reason == "RECLAIM_FAILED"
    assert supervisor.report is not None
    assert not supervisor.report.verified
    assert "NVML does not show its memory back" in supervisor.report.summary
    gpus.driver_bytes -= 1 << 30
    assert supervisor.remains is not None
    assert (await ending.end(supervisor.remains, engine.ground)).verified
    assert not supervisor.remains.directory.exists()


async def test_stop_tells_what_it_gave_back(make_engine: MakeEngine, gpus: HeldGpus, monitor: GpuMonitor) -> None:
    """What counts is what it held when it was asked to end: it may give that back before it is reclaimed."""
    engine = make_engine(stop_grace=0.5)
    engine.start((await monitor.snapshot()).gpus[:1], fake_ignore_sigterm=True)
    await engine.reaches(State.READY)
    held = gpus.hold("GPU-0", engine.pid("VLLM::EngineCor"), 5 * GIB)
    looks = gpus.snapshots
    engine.supervisor.stop("it is not needed any more")
    assert await asyncio.to_thread(eventually, lambda: gpus.snapshots > looks)
    looked_in = engine.supervisor.state
    held.size = 0
    state = await engine.ended()
    report = engine.supervisor.report

    assert looked_in is State.STOPPING
    assert state is State.STOPPED
    assert report is not None
    assert report.gpus == (GpuReclaim("GPU-0", 6 * GIB, GIB),)
