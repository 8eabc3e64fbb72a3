from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from tests.fakes.batches import embedded, generated
from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal, not_found, upgrading
from tests.fakes.samples import loaded, ready, stopped, tokens, weights
from vllmd.client import (
    AsyncClient,
    AsyncLoadedModel,
    AsyncStream,
    Client,
    EngineFailed,
    LoadedModel,
    NotFound,
    Stream,
    VllmdError,
)
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import Engine, LoadProgress


def surface(kind: type) -> dict[str, list[tuple[str, Any]]]:
    """The public methods of a class, each with its parameters and their defaults."""
    return {
        name: [(one.name, one.default) for one in inspect.signature(value).parameters.values()]
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("sync", "aio"), [(Client, AsyncClient), (LoadedModel, AsyncLoadedModel), (Stream, AsyncStream)]
)
def test_surface_is_that_of_the_synchronous_one(sync: type, aio: type) -> None:
    """Every method under the same name, with the same parameters and defaults."""
    beyond = {"cancel"} if aio is AsyncStream else set()

    assert surface(aio).keys() - surface(sync).keys() == beyond
    assert surface(sync) == {name: found for name, found in surface(aio).items() if name not in beyond}


def test_client_is_made_where_a_loop_runs() -> None:
    """Elsewhere gRPC would take a loop that nobody runs."""
    with pytest.raises(RuntimeError, match="no event loop runs here: make the client in a coroutine"):
        AsyncClient("unix:/a.sock")


async def test_load_by_a_block_or_by_await(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Both bring the model; the block releases it."""
    daemon.load = [weights(0.25), loaded(reused=True), Hang()]
    seen: list[float] = []

    async with async_client.load("m", on_progress=lambda step: seen.append(step.weights_fraction)) as llm:
        assert llm.reused
    other = await async_client.load("m")
    engine = await other.release()

    assert seen == [0.25]
    assert engine == Engine()
    assert [type(request) for request in daemon.requests] == [pb.LoadModelRequest, pb.ReleaseRequest] * 2


async def test_load_that_nobody_awaits_is_none(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Nothing is asked of the daemon, and a mistake is told at once."""
    async_client.load("m")
    with pytest.raises(ValueError, match="no use case"):
        async_client.load("m", use_case="chatting")  # type: ignore[arg-type]

    await async_client.status()
    assert len(daemon.requests) == 1


async def test_load_is_cancelled_by_its_callback(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Which may be a coroutine function."""
    daemon.load = [weights(0.25), Hang()]

    async def interrupt(progress: LoadProgress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await async_client.load("m", on_progress=interrupt)

    assert await asyncio.to_thread(daemon.cancelled.wait, 5)


async def test_load_is_cancelled_with_its_task(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """So that the daemon does not load for nobody."""
    daemon.load = [weights(0.25), Hang()]

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(async_client._load(pb.LoadModelRequest(model="m"), None))
        assert await asyncio.to_thread(daemon.arrived.acquire, timeout=5)
        task.cancel()

    assert await asyncio.to_thread(daemon.cancelled.wait, 5)


async def test_failed_load_is_typed(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """With the end of the engine's log."""
    daemon.load = [weights(0.25), Refusal("ENGINE_OUT_OF_MEMORY", "no memory", log_lines=["CUDA out of memory"])]

    with pytest.raises(EngineFailed) as caught:
        await async_client.load("m")
    assert caught.value.log_lines == ("CUDA out of memory",)

    daemon.load = [weights(0.25)]
    with pytest.raises(VllmdError, match="without a result"):
        await async_client.load("m")


async def test_lease_that_an_upgrade_took_is_released(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """The first try had ended it."""
    daemon.refusals = [upgrading(engine="qwen3-8b-3f2a")]
    daemon.release = not_found("lease", "leases/5d41")

    assert await async_client.release("5d41") == Engine(name="engines/qwen3-8b-3f2a")
    with pytest.raises(NotFound):
        await async_client.release("5d41")


async def test_engines_reads_all_pages(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """The list is whole, whatever the size of the daemon's pages."""
    daemon.engines = [Engine(name=f"engines/{number}") for number in range(5)]
    daemon.page_size = 2

    assert [engine.name for engine in await async_client.engines()] == [f"engines/{number}" for number in range(5)]
    assert await async_client.engine("3") == Engine(name="engines/3")


async def test_each_call_brings_what_the_daemon_sent(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """By an engine's name or a lease's."""
    daemon.generate = list(tokens())
    daemon.batch = [generated(0, "a")]
    daemon.embed = [embedded(0, 1.0)]
    daemon.tokenize = pb.TokenizeResponse(token_ids=[1])
    daemon.detokenize = pb.DetokenizeResponse(text="hi")
    daemon.plan = pb.PlanModelResponse(shared_engine="engines/a-1")
    daemon.watch = [pb.WatchEnginesResponse(engines=[ready()]), pb.WatchEnginesResponse(engines=[stopped()])]

    assert [response async for response in async_client.generate("a-1", "x")] == tokens()
    assert [response async for response in async_client.generate_batch("a-1", ["x"])] == [generated(0, "a")]
    assert [response async for response in async_client.embed("a-1", ["x"])] == [embedded(0, 1.0)]
    assert await async_client.tokenize("a-1", "x") == daemon.tokenize
    assert await async_client.detokenize("a-1", [1]) == "hi"
    assert await async_client.plan("m") == daemon.plan
    assert [response async for response in async_client.watch_engines()] == daemon.watch
    assert (await async_client.renew("leases/1", 30)).ttl.seconds == 30
