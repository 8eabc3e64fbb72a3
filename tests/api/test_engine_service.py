from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, cast

import grpc
import pytest
from google.protobuf import duration_pb2

from tests.fakes.host import DEADLINE_SECONDS, Host, wish
from tests.fakes.served import connected, details_of, loaded_by, reason_of, request, serving, status_of
from vllmd.api import parse
from vllmd.api.engine_service import EngineService
from vllmd.engines.state import State
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import Engine, LoadProgress
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub


async def test_a_load_reports_progress_and_ends_with_a_lease() -> None:
    """Progress never goes back; the last response is the lease with the engine as it was started."""
    async with Host() as host, serving(host) as served:
        wanted = request(fake_load_seconds=0.5, max_model_len=512)
        responses = [response async for response in served.engines.LoadModel(wanted)]
        *progress, last = responses
        phases = [response.progress.phase for response in progress]
        loaded = last.loaded

        assert phases == sorted(phases)
        assert LoadProgress.PHASE_LOADING_WEIGHTS in phases
        assert loaded.engine.state == Engine.STATE_READY
        assert loaded.engine.report.max_model_len == 512
        assert not loaded.reused
        assert loaded.lease.engine == loaded.engine.name
        assert loaded.lease.ttl.seconds == 300
        assert loaded.engine.requested_args["max_model_len"] == 512
        assert {"max_model_len", "kv_cache_memory_bytes"} <= {arg.name for arg in loaded.engine.effective_args}


async def test_a_second_load_reuses_the_engine() -> None:
    """The second client gets a lease of its own at once, and is told that nothing was started."""
    async with Host() as host, serving(host) as served:
        first, second = await served.load(), await served.load()

        assert second.reused
        assert first.engine.name == second.engine.name
        assert first.lease.name != second.lease.name
        assert second.engine.lease_count == 2


async def test_a_cancelled_load_takes_its_start_along() -> None:
    """When the only client that waits cancels, the engine's processes are gone."""
    async with Host() as host, serving(host) as served:
        call = served.engines.LoadModel(request(fake_hang_phase="compiling"))
        await anext(aiter(call))
        call.cancel()
        entry = host.scheduler.engines.entries()[0]
        await host.state(entry, State.STOPPED)

        assert entry.supervisor.report is not None
        assert entry.supervisor.report.verified


async def test_a_lease_that_its_client_never_got_is_none() -> None:
    """A client that dies at the last moment, or an answer that can't be made, leaves nothing loaded for nobody."""
    async with Host() as host:
        call: Any = EngineService(host.scheduler).LoadModel(request(), cast("Any", None))
        async for response in call:
            if response.HasField("loaded"):
                break
        granted = host.scheduler.leases.count(parse.id_of(response.loaded.engine.name, "engines"))
        await call.aclose()
        entry = host.scheduler.engines.entries()[0]
        await host.state(entry, State.STOPPED)

        assert granted == 1


async def test_a_lease_lasts_as_long_as_asked() -> None:
    """A client may choose the length, and change it with a renewal."""
    async with Host() as host, serving(host) as served:
        wanted = request()
        wanted.lease_ttl.FromMilliseconds(90_500)
        loaded = await loaded_by(served.engines.LoadModel(wanted))
        renewed = await served.engines.RenewLease(
            pb.RenewLeaseRequest(lease=loaded.lease.name, ttl=duration_pb2.Duration(seconds=200))
        )

        assert loaded.lease.ttl.ToMilliseconds() == 90_500
        assert renewed.lease.ttl.seconds == 200
        assert renewed.lease.expire_time.seconds > loaded.lease.expire_time.seconds


@pytest.mark.parametrize("seconds", [0, -1, 86_401])
async def test_a_lease_of_no_sensible_length_is_refused(seconds: int) -> None:
    """Neither nothing nor more than a day; nothing is started for it."""
    async with Host() as host, serving(host) as served:
        wanted = request()
        wanted.lease_ttl.seconds = seconds
        with pytest.raises(grpc.aio.AioRpcError, match="at most a day") as refused:
            await served.engines.LoadModel(wanted).read()

        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert host.scheduler.engines.entries() == []


async def test_the_last_release_answers_with_the_proof() -> None:
    """The answer comes when the engine is gone, and says what was found."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load()
        answer = await served.engines.Release(pb.ReleaseRequest(lease=loaded.lease.name))

        assert answer.engine.state == Engine.STATE_STOPPED
        assert answer.engine.reclaim.verified
        assert loaded.engine.pid in answer.engine.reclaim.pids
        assert answer.engine.lease_count == 0


async def test_a_held_lease_ends_with_its_client() -> None:
    """With `hold` the lease has no length; when the client cancels, the engine goes."""
    async with Host() as host, serving(host) as served:
        wanted = request()
        wanted.hold = True
        call = served.engines.LoadModel(wanted)
        loaded = await loaded_by(call)
        entry = host.scheduler.engines.entries()[0]
        held = host.scheduler.leases.count(entry.supervisor.id)
        call.cancel()
        await host.state(entry, State.STOPPED)

        assert held == 1
        assert not loaded.lease.HasField("ttl")
        assert not loaded.lease.HasField("expire_time")


async def test_a_held_lease_ends_with_its_clients_connection() -> None:
    """A client that dies says nothing; the end of its connection is enough."""
    async with Host() as host, serving(host):
        async with connected(host.directory / "s") as other:
            wanted = request()
            wanted.hold = True
            call = EngineServiceStub(other).LoadModel(wanted)
            await loaded_by(call)
            entry = host.scheduler.engines.entries()[0]
        await host.state(entry, State.STOPPED)

        assert entry.supervisor.failure is None


async def test_the_death_of_an_engine_ends_a_held_stream_with_the_cause() -> None:
    """Who holds a lease hears at once that there is nothing left to hold."""
    async with Host() as host, serving(host) as served:
        wanted = request()
        wanted.hold = True
        call = served.engines.LoadModel(wanted)
        await loaded_by(call)
        entry = host.scheduler.engines.entries()[0]
        assert entry.supervisor.pid is not None
        os.kill(entry.supervisor.pid, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError) as died:
            await asyncio.wait_for(call.read(), DEADLINE_SECONDS)

        assert died.value.code() == grpc.StatusCode.UNAVAILABLE
        assert reason_of(died.value) == "ENGINE_DIED"
        assert "RetryInfo" in details_of(status_of(died.value))


async def test_the_release_of_a_held_lease_ends_its_stream_well() -> None:
    """Somebody else may release it; then the stream ends without an error."""
    async with Host(idle_timeout=600) as host, serving(host) as served:
        wanted = request()
        wanted.hold = True
        call = served.engines.LoadModel(wanted)
        loaded = await loaded_by(call)
        await served.engines.Release(pb.ReleaseRequest(lease=loaded.lease.name))
        end = await asyncio.wait_for(call.read(), DEADLINE_SECONDS)

        assert end is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


async def test_engines_are_listed_by_pages() -> None:
    """The newest come first, every engine once, and the last page has no token."""
    async with Host() as host, serving(host) as served:
        for number in range(5):
            host.scheduler.engines.add(wish(f"fake/{number}")).supervisor.stop("a test stops it", force=True)
        models, token, pages = [], "", 0
        while pages == 0 or token:
            page = await served.engines.ListEngines(pb.ListEnginesRequest(page_size=2, page_token=token))
            models += [engine.model for engine in page.engines]
            token, pages = page.next_page_token, pages + 1

        assert models == [f"fake/{number}" for number in (4, 3, 2, 1, 0)]
        assert pages == 3


@pytest.mark.parametrize(
    "bad",
    [pb.ListEnginesRequest(page_size=-1), pb.ListEnginesRequest(page_size=1001), pb.ListEnginesRequest(page_token="x")],
)
async def test_pages_that_can_not_be_are_refused(bad: pb.ListEnginesRequest) -> None:
    """A size out of range and a token of an engine that is no longer listed are the client's to mend."""
    async with Host() as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.engines.ListEngines(bad)

        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["", "nothing", "leases/x", "engines/", "/x", "engines", "Engines/x"])
async def test_a_bad_name_is_refused(name: str) -> None:
    """A name of another form is INVALID_ARGUMENT; a good one of nobody is NOT_FOUND."""
    async with Host() as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError) as bad:
            await served.engines.GetEngine(pb.GetEngineRequest(name=name))
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await served.engines.GetEngine(pb.GetEngineRequest(name="engines/nobody"))

        assert bad.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert (unknown.value.code(), reason_of(unknown.value)) == (grpc.StatusCode.NOT_FOUND, "ENGINE_NOT_FOUND")


async def test_an_engine_is_got_by_name() -> None:
    """It is shown as it is now, with the story of how it got there."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load()
        engine = (await served.engines.GetEngine(pb.GetEngineRequest(name=loaded.engine.name))).engine

        assert engine.state == Engine.STATE_READY
        assert [change.new_state for change in engine.transitions] == [Engine.STATE_STARTING, Engine.STATE_READY]
        assert engine.pid == loaded.engine.pid
