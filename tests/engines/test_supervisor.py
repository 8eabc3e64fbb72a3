from __future__ import annotations

import asyncio
import os
import re
import signal

import pytest

from tests.engines.conftest import MakeEngine
from tests.fakes.supervised import DEADLINE_SECONDS, Engine
from vllmd.engines import reclaim
from vllmd.engines.diagnosis import Failure
from vllmd.engines.progress import Phase
from vllmd.engines.state import State
from vllmd.errors import Exhausted, InvalidRequest, Unavailable
from vllmd.worker.fake_backend import PHASES
from vllmd.worker.processes import read_stat


async def test_engine_is_loaded_serves_and_is_stopped(engine: Engine) -> None:
    """The whole of a good life, with what it tells of it."""
    engine.start(fake_load_seconds=1.0)
    await engine.reaches(State.READY)
    async with asyncio.timeout(DEADLINE_SECONDS):
        chunk = await engine.stream().next()
    supervisor = engine.supervisor
    assert supervisor.info is not None
    info, pid, log = supervisor.info, supervisor.pid, supervisor.log
    supervisor.stop("its last lease ended")
    state = await engine.ended()

    assert chunk.text.startswith("w0 ")
    assert info.vllm_version == "fake"
    assert log is not None
    assert state is State.STOPPED
    assert engine.states == [State.STARTING, State.READY, State.STOPPING, State.RECLAIMING, State.STOPPED]
    assert supervisor.life.story[3].reason == "its worker exited with status 0"
    assert engine.changes == 5
    assert {Phase.LOADING_WEIGHTS, Phase.COMPILING, Phase.PROFILING} <= set(engine.phases)
    assert supervisor.report is not None
    assert supervisor.report.verified
    assert pid in supervisor.report.pids
    assert supervisor.report.shutdown_seconds is not None
    assert supervisor.failure is None
    assert isinstance(supervisor.error(), Unavailable)
    assert str(supervisor.error()) == f"Engine {engine.id} was stopped: its last lease ended."
    assert (supervisor.pid, supervisor.log) == (None, None)
    assert "INFO [gpu_model_runner.py] Starting to load model" in supervisor.last_lines


@pytest.mark.parametrize("phase", PHASES)
async def test_start_that_fails_says_why(engine: Engine, phase: str) -> None:
    """In whichever phase: the cause is EngineCore's, from the log, and everything is cleaned up."""
    engine.start(fake_fail_phase=phase, fake_error="torch.OutOfMemoryError: CUDA out of memory.")
    state = await engine.ended()
    failure = engine.supervisor.failure

    assert state is State.FAILED
    assert engine.states == [State.STARTING, State.RECLAIMING, State.FAILED]
    assert failure is not None
    assert failure.reason == "GPU_MEMORY_EXHAUSTED"
    assert failure.message.startswith("torch.OutOfMemoryError: CUDA out of memory.")
    assert any("CUDA out of memory" in line for line in failure.log_lines)
    assert isinstance(engine.supervisor.error(), Exhausted)


async def test_start_that_was_asked_for_wrongly_is_an_error_of_the_request(engine: Engine) -> None:
    """Another try would not help."""
    engine.start(fake_fail_phase="importing", fake_error="ValueError: Unknown quantization method: x. Must be one of y")
    await engine.ended()

    assert isinstance(engine.supervisor.error(), InvalidRequest)


async def test_start_that_hangs_is_given_up(make_engine: MakeEngine) -> None:
    """Its time is over, and where it hung is told."""
    engine = make_engine(load_timeout=1.0)
    engine.start(fake_hang_phase="compiling")
    state = await engine.ended()
    failure = engine.supervisor.failure

    assert state is State.FAILED
    assert failure is not None
    assert failure.reason == "START_TIMEOUT"
    assert re.fullmatch(r"The engine was not ready after 1 s \(.+\)\. Raise --load-timeout\.", failure.message)


@pytest.mark.parametrize("force", [True, False])
async def test_start_that_is_not_wanted_any_more_is_killed_at_once(engine: Engine, force: bool) -> None:
    """vLLM would not heed a SIGTERM while it loads, so there is no grace period."""
    engine.start(fake_hang_phase="compiling", fake_ignore_sigterm=True)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while engine.supervisor.progress.phase < Phase.COMPILING:
            await engine.supervisor.changes.wait()
    engine.supervisor.stop("nobody waits for it", force)
    state = await engine.ended()

    assert state is State.STOPPED
    assert engine.states == [State.STARTING, State.RECLAIMING, State.STOPPED]


async def test_worker_killed_while_it_starts_is_noticed(engine: Engine) -> None:
    """At once, not when the time is over."""
    engine.start(fake_hang_phase="importing")
    pid = engine.supervisor.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    state = await engine.ended()
    failure = engine.supervisor.failure

    assert state is State.FAILED
    assert failure is not None
    assert failure.message == "The engine's worker was killed by signal 9 while it was starting."


async def test_engine_that_can_not_be_spawned_fails(make_engine: MakeEngine) -> None:
    """Its directory is made by then, and is gone afterwards."""
    engine = make_engine(python="/no/such/python")
    engine.start()
    during = engine.supervisor.state
    state = await engine.ended()

    assert during is State.STARTING
    assert state is State.FAILED
    assert engine.supervisor.failure is not None
    assert engine.supervisor.failure.reason == "SPAWN_FAILED"
    assert "/no/such/python" in engine.supervisor.failure.message


async def test_engine_that_never_started_leaves_nothing(engine: Engine, make_engine: MakeEngine) -> None:
    """Stopped or given up while it waited for its GPUs."""
    refused = make_engine()
    engine.supervisor.stop("nobody waits for it")
    refused.supervisor.fail(Failure("NOT_ENOUGH_GPUS", "There are too few."))
    engine.start()

    assert await engine.ended() is State.STOPPED
    assert await refused.ended() is State.FAILED
    assert str(refused.supervisor.error()) == "There are too few."
    assert engine.supervisor.report == refused.supervisor.report == reclaim.NOTHING


async def test_second_start_and_late_events_change_nothing(engine: Engine) -> None:
    """What comes after an end finds nobody."""
    engine.start()
    engine.start(fake_fail_phase="importing")
    await engine.reaches(State.READY)
    engine.supervisor.stop("it is not needed any more")
    await engine.ended()
    story = engine.supervisor.life.story
    engine.supervisor.stop("again", force=True)
    engine.supervisor.fail(Failure("LATE", "Too late."))

    assert engine.supervisor.life.story == story
    assert engine.supervisor.failure is None


async def test_ended_worker_is_collected(engine: Engine) -> None:
    """No zombie is left to the daemon."""
    engine.start()
    await engine.reaches(State.READY)
    pid = engine.supervisor.pid
    assert pid is not None
    engine.supervisor.stop("it is not needed any more")
    await engine.ended()

    assert read_stat(pid) is None


def test_engine_can_be_printed(engine: Engine) -> None:
    """A log line about it says which one and how it is."""
    assert repr(engine.supervisor) == f"<Engine {engine.id} PENDING gpus=->"
