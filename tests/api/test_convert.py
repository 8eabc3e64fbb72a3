from __future__ import annotations

import dataclasses

import pytest

from tests.fakes.fake_gpus import gpu
from tests.fakes.host import Host, wish
from vllmd.api import convert
from vllmd.engines.progress import LoadProgress, Phase
from vllmd.engines.state import State
from vllmd.planner.memory import GpuMemory
from vllmd.scheduler.leases import Lease
from vllmd.v1 import engine_pb2, generation_pb2
from vllmd.worker.report import Measured


@pytest.mark.parametrize(("seconds", "parts"), [(0.0, (0, 0)), (1.5, (1, 500_000_000)), (0.9999999999, (1, 0))])
def test_durations(seconds: float, parts: tuple[int, int]) -> None:
    """Nanoseconds never make up a whole second."""
    value = convert.duration(seconds)

    assert (value.seconds, value.nanos) == parts


@pytest.mark.parametrize(
    ("word", "reason"), [("stop", "STOP"), ("length", "LENGTH"), ("abort", "ABORT"), ("repetition", "ABORT")]
)
def test_finish_reasons(word: str, reason: str) -> None:
    """vLLM's word for it, and whatever it may say in future."""
    assert generation_pb2.FinishReason.Name(convert.finish_reason(word)) == f"FINISH_REASON_{reason}"


def test_every_state_and_phase_has_its_counterpart() -> None:
    """The proto names each of them alike."""
    states = {engine_pb2.Engine.State.Name(convert.state(state)) for state in State}
    phases = {
        phase.name: engine_pb2.LoadProgress.Phase.Name(convert.progress(LoadProgress(phase), 0.0).phase)
        for phase in Phase
    }

    assert states == {f"STATE_{state.name}" for state in State}
    assert phases == {name: f"PHASE_{name}" for name in phases}


def test_leases() -> None:
    """The expiry moves from the monotonic clock to the wall's; a held lease has none."""
    timed = convert.lease(Lease("s", "e", 60.0, 160.0), 1_700_000_000.0)
    held = convert.lease(Lease("s", "e", None, None), 1_700_000_000.0)

    assert (timed.name, timed.engine, timed.ttl.seconds) == ("leases/s", "engines/e", 60)
    assert timed.expire_time.seconds == 1_700_000_160
    assert not held.HasField("expire_time")


async def test_an_engine_shows_no_secret() -> None:
    """Neither the host's nor one that a client has set: every user may look at every engine."""
    settings = {"engine_args": {"hf_token": "hf_host"}, "allowed_engine_args": ("model_loader_extra_config",)}
    asked = wish(model_loader_extra_config={"api_key": "key_client", "level": 3})
    async with Host(gpu(), **settings) as host:
        with host.scheduler.loading(asked) as entry:
            await host.ready(entry)
            found = convert.engine(entry, 1, 0.0)
        await host.state(entry, State.STOPPED)
    shown = {one.name: one.value.string_value for one in found.effective_args}

    assert shown["hf_token"] == "(hidden)"
    assert found.requested_args["model_loader_extra_config"] == {"api_key": "(hidden)", "level": 3}
    assert not any(secret in str(found) for secret in ("hf_host", "key_client"))


async def test_an_engine_at_every_stage_of_its_life() -> None:
    """Progress while it starts, a report once it serves, and the proof when it is gone."""
    async with Host(gpu()) as host:
        with host.scheduler.loading(wish(seed=3)) as entry:
            pending = convert.engine(entry, 0, entry.supervisor.created + 2.5)
            await host.ready(entry)
            ready = convert.engine(entry, 1, 0.0)
        await host.state(entry, State.STOPPED)
        stopped = convert.engine(entry, 0, 0.0)

    assert pending.progress.elapsed.ToMilliseconds() == 2500
    assert (pending.pid, len(pending.gpus), pending.HasField("report")) == (0, 0, False)
    assert (ready.state, ready.lease_count) == (engine_pb2.Engine.STATE_READY, 1)
    assert list(ready.gpus) == ["gpus/GPU-0"]
    assert ready.report.dtype == "bfloat16"
    assert {arg.name: arg.source for arg in ready.effective_args}["seed"] == engine_pb2.EngineArg.SOURCE_CLIENT
    assert all(arg.reason for arg in ready.effective_args)
    assert not ready.HasField("progress")
    assert stopped.reclaim.verified
    assert [item.gpu for item in stopped.reclaim.gpus] == ["gpus/GPU-0"]
    assert not stopped.HasField("failure")


def test_what_was_measured() -> None:
    """As far as it is known; nothing at all is unset."""
    found = convert.measured_memory(Measured(15 << 30, 2 << 30, None, 40 << 30, 1 << 29, 256, 8192))
    assert found is not None

    assert (found.weights_bytes, found.activation_bytes, found.other_bytes) == (15 << 30, 2 << 30, 0)
    assert (found.kv_cache_bytes, found.graphs_bytes, found.total_bytes) == (40 << 30, 1 << 29, 0)
    assert convert.measured_memory(None) is None
    assert convert.measured_memory(Measured(graphs_bytes=0, max_num_seqs=256)) is None


async def test_an_engine_says_what_it_measured() -> None:
    """Once it is ready."""
    async with Host(gpu()) as host:
        entry, _ = await host.load(wish(fake_vram_bytes=3000))
        bare, _ = await host.load(wish("fake/bare"))

        assert convert.engine(entry, 1, 0.0).report.measured_memory.weights_bytes == 1000
        assert not convert.engine(bare, 1, 0.0).report.HasField("measured_memory")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", engine_pb2.USE_CASE_UNSPECIFIED),
        ("debate", engine_pb2.USE_CASE_DEBATE),
        ("of-a-later-daemon", engine_pb2.USE_CASE_UNSPECIFIED),
    ],
)
async def test_an_engine_says_what_it_is_for(name: str, value: engine_pb2.UseCase.ValueType) -> None:
    """Also one that was taken over from a later daemon, whose use case nobody here knows, can be listed."""
    async with Host() as host:
        entry, _ = await host.load(wish())
        entry.wish = dataclasses.replace(entry.wish, use_case=name)

        assert convert.engine(entry, 1, 0.0).use_case == value


async def test_an_engine_says_what_was_planned_for_it() -> None:
    """Byte by byte, where that is known."""
    async with Host(gpu()) as host:
        entry, _ = await host.load(wish())
        unknown = convert.engine(entry, 1, 0.0)
        assert entry.supervisor.plan is not None
        memory = GpuMemory(total=80, weights=15, kv_cache=40, activation=3, graphs=2, other=1, held=4)
        entry.supervisor.plan = dataclasses.replace(entry.supervisor.plan, memory=memory)
        known = convert.engine(entry, 1, 0.0).planned_memory

    assert not unknown.HasField("planned_memory")
    assert (known.total_bytes, known.weights_bytes, known.kv_cache_bytes, known.held_bytes) == (80, 15, 40, 4)
    assert (known.activation_bytes, known.graphs_bytes, known.other_bytes) == (3, 2, 1)
