from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import duration_pb2

from tests.fakes.host import DEADLINE_SECONDS, Host, eventually
from tests.fakes.served import Served, connected, details_of, reason_of, serving, status_of
from vllmd.api.board import Board
from vllmd.tasks import spawn
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.engine_pb2 import Engine
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub

if TYPE_CHECKING:
    from vllmd.v1.engine_service_pb2_grpc import EngineServiceAsyncStub

LITTLE_AHEAD = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096))


class Watch:
    """A call of WatchEngines, and what it has told so far."""

    def __init__(self, engines: EngineServiceAsyncStub, name: str = "", seconds: float | None = None) -> None:
        request = pb.WatchEnginesRequest(name=name)
        if seconds is not None:
            request.min_interval.CopyFrom(duration_pb2.Duration(nanos=round(seconds * 1e9)))
        self.call = engines.WatchEngines(request)
        self.engines: dict[str, Engine] = {}
        self.states: list[Engine.State.ValueType] = []
        self.count = 0

    async def read(self) -> pb.WatchEnginesResponse | None:
        """Read one response; `None` at the end."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            response = await self.call.read()
        if not isinstance(response, pb.WatchEnginesResponse):
            return None
        self.count += 1
        for engine in response.engines:
            self.engines[engine.name] = engine
            self.states.append(engine.state)
        for name in response.forgotten_engines:
            del self.engines[name]
        return response

    async def until(self, *states: Engine.State.ValueType) -> None:
        """Read until all engines that there are have these states, the newest last."""
        while [engine.state for engine in self.engines.values()] != list(states):
            assert await self.read() is not None

    async def end(self) -> None:
        """Read to the end."""
        while await self.read() is not None:
            pass


async def generate(served: Served, engine: str, tokens: int) -> None:
    """Generate on an engine, to the end."""
    wanted = pb.GenerateRequest(engine=engine, text="a")
    wanted.sampling_params.CopyFrom(generation_pb2.SamplingParams(max_tokens=tokens))
    async for _ in served.engines.Generate(wanted):
        pass


async def test_the_first_response_has_all_engines_and_later_ones_those_that_changed() -> None:
    """Also if there are none; an engine that stays as it is comes once."""
    async with Host() as host, serving(host) as served:
        watch = Watch(served.engines)
        first = await watch.read()
        one = await served.load("fake/one")
        await watch.until(Engine.STATE_READY)
        second = Watch(served.engines)
        await second.until(Engine.STATE_READY)
        two = await served.load("fake/two")
        await second.until(Engine.STATE_READY, Engine.STATE_READY)

        assert first == pb.WatchEnginesResponse()
        assert list(second.engines) == [one.engine.name, two.engine.name]
        assert [one.name for one in watch.engines.values()] == [one.engine.name]


async def test_a_load_is_seen_as_it_goes_on() -> None:
    """With its phases, and a lease at the end."""
    async with Host() as host, serving(host) as served:
        watch = Watch(served.engines, seconds=0)
        await watch.read()
        loading = spawn("load", served.load(fake_load_seconds=0.5))
        phases = []
        while not any(engine.lease_count for engine in watch.engines.values()):
            await watch.read()
            phases += [engine.progress.phase for engine in watch.engines.values()]
        await loading

        assert len(set(phases)) > 3
        assert watch.states[-1] == Engine.STATE_READY


async def test_what_changes_within_the_interval_comes_together() -> None:
    """A load has a dozen changes; who wants to hear of it twice a second does."""
    async with Host() as host, serving(host) as served:
        watch = Watch(served.engines, seconds=0.5)
        await watch.read()
        began = time.monotonic()
        await served.load(fake_load_seconds=0.2)
        await watch.until(Engine.STATE_READY)
        seconds = time.monotonic() - began

        assert watch.count <= 2 + seconds / 0.5


@pytest.mark.parametrize(("seconds", "nanos"), [(61, 0), (-1, 0), (0, -1)])
async def test_an_interval_that_makes_no_sense_is_refused(seconds: int, nanos: int) -> None:
    """With what does."""
    async with Host() as host, serving(host) as served:
        wanted = pb.WatchEnginesRequest(min_interval=duration_pb2.Duration(seconds=seconds, nanos=nanos))
        with pytest.raises(grpc.aio.AioRpcError, match="0 to 60 s") as refused:
            await served.engines.WatchEngines(wanted).read()

        assert reason_of(refused.value) == "INVALID_FIELD"


async def test_figures_come_each_second_while_an_engine_is_busy() -> None:
    """And once more at the end; afterwards there is nothing to tell."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load(fake_tokens_per_second=50)
        watch = Watch(served.engines)
        await watch.read()
        times, counts = [time.monotonic()], [0]
        generating = spawn("generate", generate(served, loaded.engine.name, 130))
        while (await watch.read()) is not None:
            (engine,) = watch.engines.values()
            times.append(time.monotonic())
            counts.append(engine.generated_token_count)
            if generating.done() and not engine.running_count:
                break

        assert counts == sorted(counts)
        assert counts[-1] == 130
        assert len(counts) >= 4
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1.5


async def test_an_engine_that_is_watched_ends_its_stream() -> None:
    """With its last state, after which nothing changes; others are not told."""
    async with Host() as host, serving(host) as served:
        other, loaded = await served.load("fake/other"), await served.load("fake/model")
        watch = Watch(served.engines, loaded.engine.name)
        await watch.until(Engine.STATE_READY)
        await served.engines.Release(pb.ReleaseRequest(lease=loaded.lease.name))
        await watch.end()
        again = Watch(served.engines, loaded.engine.name)
        await again.end()

        assert other.engine.name not in watch.engines
        assert watch.engines[loaded.engine.name].state == Engine.STATE_STOPPED
        assert watch.engines[loaded.engine.name].reclaim.verified
        assert (again.count, again.states) == (1, [Engine.STATE_STOPPED])


async def test_an_engine_that_is_not_there_can_not_be_watched() -> None:
    """As GetEngine says it."""
    async with Host() as host, serving(host) as served:
        for name, reason in (("engines/none", "ENGINE_NOT_FOUND"), ("none", "INVALID_NAME")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await Watch(served.engines, name).read()
            assert reason_of(refused.value) == reason


async def test_an_engine_that_is_not_listed_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a reader's own list does not grow for ever."""
    monkeypatch.setattr("vllmd.scheduler.placement.KEPT_ENDED", 0)
    async with Host() as host, serving(host) as served:
        first = await served.load("fake/first")
        watch = Watch(served.engines)
        await watch.read()
        await served.engines.Release(pb.ReleaseRequest(lease=first.lease.name))
        await served.load("fake/second")
        while first.engine.name in watch.engines:
            await watch.read()
        await watch.until(Engine.STATE_READY)


async def test_lines_of_a_log_are_shown_of_one_engine_and_not_in_lists() -> None:
    """As GetEngine and ListEngines do."""
    async with Host() as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError):
            await served.load(fake_fail_phase="compiling")
        listed = Watch(served.engines)
        await listed.read()
        (engine,) = listed.engines.values()
        alone = Watch(served.engines, engine.name)
        await alone.end()

        assert engine.failure.reason == alone.engines[engine.name].failure.reason
        assert not engine.failure.log_lines
        assert alone.engines[engine.name].failure.log_lines


async def test_who_reads_slowly_gets_the_latest_and_no_backlog() -> None:
    """Hundreds of changes while nobody reads are a few responses, the last of them with what is.

    So it is where the client's gRPC takes on little by itself.
    """
    async with Host() as host, serving(host) as served, connected(host.directory / "s", *LITTLE_AHEAD) as channel:
        loaded = await served.load()
        engine_id = loaded.engine.name.partition("/")[2]
        watch = Watch(EngineServiceStub(channel), seconds=0)
        await watch.read()
        for number in range(400):
            host.scheduler.leases.grant(f"l{number}", engine_id, 60.0, time.monotonic())
            host.scheduler.engines.changed.notify()
            await asyncio.sleep(0.001)
        while watch.engines[loaded.engine.name].lease_count < 401:
            await watch.read()

        assert watch.count < 20


async def test_an_upgrade_ends_the_stream_as_others() -> None:
    """With word of when to come back, also where the next response would be due in a minute."""
    async with Host() as host, serving(host) as served:
        await served.load()
        soon, late = Watch(served.engines), Watch(served.engines, seconds=1.9)
        await soon.read()
        await late.read()
        host.scheduler.upgrading = True
        began = time.monotonic()
        for watch in (soon, late):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watch.read()
            assert reason_of(ended.value) == "UPGRADING"
            assert "RetryInfo" in details_of(status_of(ended.value))
        seconds = time.monotonic() - began
        host.scheduler.upgrading = False

        assert seconds < 1.0


async def test_a_drain_is_watched_to_its_end() -> None:
    """All engines have ended then, and the stream does, well."""
    async with Host() as host, serving(host) as served:
        await served.load()
        watch, late = Watch(served.engines), Watch(served.engines, seconds=1.9)
        await watch.read()
        await late.read()
        draining = spawn("drain", host.scheduler.drain(0.0, lambda: False))
        await watch.end()
        await late.end()

        assert [engine.state for engine in watch.engines.values()] == [Engine.STATE_STOPPED]
        assert watch.engines == late.engines
        assert await watch.call.code() == grpc.StatusCode.OK
        assert await draining


async def test_many_who_watch_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets all changes; how many protos are made does not depend on how many they are."""
    boards: list[Board] = []
    made = Board.__init__

    def noted(self: Board, *arguments: Any) -> None:
        made(self, *arguments)
        boards.append(self)

    monkeypatch.setattr(Board, "__init__", noted)
    async with Host() as host, serving(host) as served:
        loaded = await served.load(fake_tokens_per_second=0)
        watches = [Watch(served.engines) for _ in range(100)]
        await asyncio.gather(*(watch.read() for watch in watches))
        before = boards[0].made
        await generate(served, loaded.engine.name, 10)
        await served.engines.Release(pb.ReleaseRequest(lease=loaded.lease.name))
        await asyncio.gather(*(watch.until(Engine.STATE_STOPPED) for watch in watches))

        assert boards[0].made - before < 50


async def test_nobody_looks_when_nobody_watches() -> None:
    """A client that goes takes the work for it along."""
    async with Host() as host, serving(host) as served:
        watch = Watch(served.engines)
        await watch.read()

        def looking() -> bool:
            return any(task.get_name() == "look at engines" for task in asyncio.all_tasks())

        assert looking()
        watch.call.cancel()
        await eventually(lambda: not looking())
