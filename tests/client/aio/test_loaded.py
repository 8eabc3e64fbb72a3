from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.fakes.batches import embedded, generated, too_long
from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal, not_found
from tests.fakes.samples import loaded, stopped, tokens
from vllmd.client import AsyncClient, Cancelled, InvalidRequest, Unavailable, VllmdError
from vllmd.v1 import engine_service_pb2 as pb

LEASE = "leases/5d41402abc4b2a76b9719d911017c592"


async def test_block_generates_and_releases(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """By the lease, which is held until the end."""
    daemon.load = [loaded(), Hang()]
    daemon.generate = list(tokens())

    async with async_client.load("m") as llm:
        texts = [delta.text async for delta in llm.generate("x", max_tokens=4)]
        whole = await llm.complete("x")
        said = [delta.text async for delta in llm.chat("hi")]
        assert not daemon.cancelled.is_set()

    assert texts == said == ["Once", " upon a", " time"]
    assert (whole.text, whole.finish_reason) == ("Once upon a time", "length")
    assert daemon.requests[0].hold
    assert daemon.requests[3].chat.messages[0].content == "hi"
    assert daemon.requests[4] == pb.ReleaseRequest(lease=LEASE)
    assert await asyncio.to_thread(daemon.cancelled.wait, 5)


async def test_release_tells_what_became_of_the_engine(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """The engine comes back with its proof, and the block does not release again."""
    daemon.load = [loaded(), Hang()]
    daemon.release = pb.ReleaseResponse(engine=stopped())

    async with async_client.load("m") as llm:
        engine = await llm.release()

    assert engine.reclaim.verified
    assert sum(isinstance(request, pb.ReleaseRequest) for request in daemon.requests) == 1


async def test_cancelled_block_releases(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """A task that is cancelled within the block leaves nothing loaded."""
    daemon.load = [loaded(), Hang()]
    entered = asyncio.Event()

    async def use() -> None:
        async with async_client.load("m"):
            entered.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(use())
        await entered.wait()
        task.cancel()

    assert task.cancelled()
    assert isinstance(daemon.requests[-1], pb.ReleaseRequest)


async def test_failing_release_comes_second(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """It does not hide why the block failed; a lease that is gone already is what was wanted."""
    daemon.load = [loaded(), Hang()]
    daemon.release = Refusal("INTERNAL", "no")
    with pytest.raises(ZeroDivisionError):
        async with async_client.load("m"):
            raise ZeroDivisionError
    with pytest.raises(VllmdError, match="INTERNAL"):
        async with async_client.load("m"):
            pass

    daemon.release = not_found("lease", LEASE)
    async with async_client.load("m"):
        pass


async def test_engine_that_dies_is_told_at_the_next_call(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """With its reason, and without asking the daemon."""
    daemon.load = [loaded(), Refusal("ENGINE_DIED", "it died", grpc.StatusCode.UNAVAILABLE)]
    llm = await async_client.load("m")

    with pytest.raises(Unavailable, match="ENGINE_DIED"):
        await llm.wait()
    with pytest.raises(Unavailable, match="ENGINE_DIED"):
        llm.generate("x")
    assert len(daemon.requests) == 1


async def test_model_that_nobody_refers_to_lets_its_lease_go(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """The task that keeps it does not keep the model."""
    daemon.load = [loaded(), Hang()]
    llm = await async_client.load("m")
    assert await asyncio.to_thread(daemon.arrived.acquire, timeout=5)
    assert not daemon.cancelled.is_set()

    del llm

    assert await asyncio.to_thread(daemon.cancelled.wait, 5)


async def test_client_that_closes_lets_its_leases_go(daemon: FakeDaemon) -> None:
    """They are its own."""
    daemon.load = [loaded(), Hang()]

    async with AsyncClient(daemon.target) as client:
        llm = await client.load("m")

    assert await asyncio.to_thread(daemon.cancelled.wait, 5)
    with pytest.raises(VllmdError, match="CLIENT_CLOSED"):
        llm.generate("x")


async def test_batch_comes_as_it_is_complete_or_in_order(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """One that failed has its error, and the others go on."""
    failed = pb.GenerateBatchResponse(prompt_index=1, failure=too_long())
    daemon.load = [loaded(), Hang()]
    daemon.batch = [generated(1, "b"), generated(0, "a")]

    async with async_client.load("m") as llm:
        whole = await llm.complete_batch(["x", "y"])
        daemon.batch = [generated(2, "c"), failed, generated(0, "a")]
        results = [result async for result in llm.generate_batch(["x", "y", "z"])]
        with pytest.raises(InvalidRequest, match="PROMPT_TOO_LONG"):
            await llm.complete_batch(["x", "y", "z"])

    assert [generation.text for generation in whole] == ["a", "b"]
    assert [result.index for result in results] == [2, 1, 0]
    assert isinstance(results[1].outcome, InvalidRequest)


async def test_vectors_and_tokens(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Vectors are in the inputs' order."""
    daemon.load = [loaded(), Hang()]
    daemon.embed = [embedded(1, 0.0, 1.0), embedded(0, 1.0, 0.0)]
    daemon.tokenize = pb.TokenizeResponse(token_ids=[1, 2])
    daemon.detokenize = pb.DetokenizeResponse(text="hi")

    async with async_client.load("m") as llm:
        assert await llm.embed(["a", "b"]) == [[1.0, 0.0], [0.0, 1.0]]
        assert list((await llm.tokenize("hi")).token_ids) == [1, 2]
        assert await llm.detokenize([1, 2]) == "hi"


async def test_renewed_lease_has_its_new_length(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """One that is not held is renewed by hand as well."""
    daemon.load = [loaded()]

    async with async_client.load("m", lease_ttl=600) as llm:
        assert (await llm.renew(3000)).ttl.seconds == 3000
        assert llm.lease.ttl.seconds == 3000


async def test_model_that_was_released_says_so(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Without asking the daemon, which would know no such lease."""
    daemon.load = [loaded()]
    async with async_client.load("m") as llm:
        pass

    with pytest.raises(Cancelled, match="LEASE_RELEASED"):
        llm.generate("x")
    with pytest.raises(Cancelled, match="LEASE_RELEASED"):
        await llm.renew()
    assert [type(request) for request in daemon.requests] == [pb.LoadModelRequest, pb.ReleaseRequest]
