from __future__ import annotations

from tests.fakes.fake_daemon import FakeDaemon, not_found, upgrading
from tests.fakes.gpu_samples import eight_gpus
from tests.fakes.host_samples import events, gpu_processes, orphan, profile, reclaim
from tests.fakes.samples import status, stopped
from vllmd.client import AsyncClient
from vllmd.v1 import host_service_pb2
from vllmd.v1.engine_pb2 import Engine


async def test_what_is_there_comes_as_the_daemon_sent_it(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """The host, its GPUs, its processes, what loads took."""
    daemon.status = status()
    daemon.gpus = eight_gpus()
    daemon.gpu_processes = gpu_processes(orphan())
    daemon.profiles = host_service_pb2.ListProfilesResponse(profiles=[profile()])
    daemon.forget = host_service_pb2.ForgetProfilesResponse(forgotten_count=3)

    assert await async_client.status() == daemon.status
    assert await async_client.gpus(timeout=5) == daemon.gpus
    assert await async_client.gpu_processes() == daemon.gpu_processes
    assert await async_client.profiles("org/model") == [profile()]
    assert await async_client.forget_profiles() == 3


async def test_stop_returns_the_proof(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Or the name alone of an engine that an upgrade took."""
    daemon.stop = host_service_pb2.StopEngineResponse(engine=stopped())
    assert (await async_client.stop("qwen3-8b-3f2a", force=True)).reclaim.killed_count == 1

    daemon.refusals = [upgrading()]
    daemon.stop = not_found("engine", "engines/a-1")
    assert await async_client.stop("a-1") == Engine(name="engines/a-1")


async def test_a_reclaim_is_confirmed_on_purpose(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Without a word it is a dry run of all."""
    daemon.reclaim = reclaim()
    await async_client.reclaim()
    await async_client.reclaim(confirmed=True, pid=5)

    assert [(request.confirmed, request.pid) for request in daemon.requests] == [(False, 0), (True, 5)]


async def test_events_and_logs_are_streams(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Of events and of lines, one by one."""
    daemon.events = [events()]
    daemon.logs = [host_service_pb2.TailLogsResponse(lines=["a", "b"])]

    assert [event async for event in async_client.events(last=2)] == list(events().events)
    assert [line async for line in async_client.logs("e", lines=0)] == ["a", "b"]
    assert daemon.requests[1].HasField("lines")
