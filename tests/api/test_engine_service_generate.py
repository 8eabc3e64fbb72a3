from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import grpc
import pytest

from tests.fakes.host import DEADLINE_SECONDS, Host, eventually
from tests.fakes.served import Served, connected, details_of, reason_of, serving, status_of
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub

ABORT_SECONDS = 0.2
"""In which the end of a call must reach the engine."""

BACKLOG = 8_000
"""Tokens whose messages are more than gRPC takes on from a server whose client does not read."""


def prompt(lease: str, max_tokens: int | None = None, text: str = "one two three", **more: Any) -> pb.GenerateRequest:
    params = generation_pb2.SamplingParams(max_tokens=max_tokens)
    return pb.GenerateRequest(lease=lease, text=text, sampling_params=params, **more)


async def generated(served: Served, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    """Generate to the end."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [response async for response in served.engines.Generate(request)]


async def aborted(host: Host, lease: str, served: Served) -> tuple[float, int]:
    """Wait until nothing runs; returns how long that took and how many tokens the engine still made afterwards."""
    link = host.scheduler.engines.entries()[0].supervisor.link
    assert link is not None
    seconds = await eventually(lambda: link.running == 0, ABORT_SECONDS)
    call = served.engines.Generate(prompt(lease, 20))
    first = await call.read()
    assert isinstance(first, pb.GenerateResponse)
    before, expected = link.generated_tokens, 20 - len(first.token_ids)
    while await call.read() is not grpc.aio.EOF:
        pass
    return seconds, max(0, link.generated_tokens - before - expected)


async def test_a_generation_streams_tokens_and_ends_with_the_usage() -> None:
    """Deltas add up to what was asked for; reason, usage and timings come with the last, and only there."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load(fake_tokens_per_second=0)
        *deltas, last = await generated(served, prompt(loaded.lease.name, 50))
        tokens = [token for response in (*deltas, last) for token in response.token_ids]

        assert tokens == list(range(50))
        assert "".join(response.text for response in (*deltas, last)).split() == [f"w{token}" for token in tokens]
        assert last.finish_reason == generation_pb2.FINISH_REASON_LENGTH
        assert last.usage == generation_pb2.Usage(prompt_tokens=3, completion_tokens=50)
        assert 0 < last.timings.time_to_first_token.ToNanoseconds() <= last.timings.total.ToNanoseconds()
        assert not any(response.HasField("usage") or response.finish_reason for response in deltas)


async def test_token_ids_and_conversations_are_prompts_too() -> None:
    """Each kind of prompt arrives at the engine as what it is."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_until_eos=2)).lease.name
        tokens = pb.GenerateRequest(lease=lease, tokens=generation_pb2.TokenPrompt(token_ids=[5, 6, 7, 8]))
        messages = [generation_pb2.ChatMessage(role="user", content="a b c d e")]
        chat = pb.GenerateRequest(lease=lease, chat=generation_pb2.ChatPrompt(messages=messages))
        ends = [(await generated(served, request))[-1] for request in (tokens, chat)]

        assert [end.usage.prompt_tokens for end in ends] == [4, 5]
        assert {end.finish_reason for end in ends} == {generation_pb2.FINISH_REASON_STOP}


async def test_a_daemon_that_drains_takes_no_generation() -> None:
    """A client is told to come back, and when, as it is for a load."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        host.scheduler.draining = True
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generated(served, prompt(lease))

        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert reason_of(refused.value) == "DRAINING"
        assert "RetryInfo" in details_of(status_of(refused.value))


async def test_a_generation_needs_either_a_lease_or_an_engine() -> None:
    """Neither and both are refused; an engine alone will do."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load()
        lease, engine = loaded.lease.name, loaded.engine.name
        with pytest.raises(grpc.aio.AioRpcError, match="either a lease or an engine"):
            await generated(served, pb.GenerateRequest(text="a"))
        with pytest.raises(grpc.aio.AioRpcError, match="either a lease or an engine"):
            await generated(served, prompt(lease, engine=engine))
        by_engine = await generated(
            served,
            pb.GenerateRequest(engine=engine, text="a", sampling_params=generation_pb2.SamplingParams(max_tokens=1)),
        )

        assert by_engine[-1].usage.completion_tokens == 1


@pytest.mark.parametrize(
    "bad",
    [
        pb.GenerateRequest(),
        pb.GenerateRequest(tokens=generation_pb2.TokenPrompt()),
        pb.GenerateRequest(chat=generation_pb2.ChatPrompt()),
        pb.GenerateRequest(tokens=generation_pb2.TokenPrompt(token_ids=[-1])),
        pb.GenerateRequest(text="a", sampling_params=generation_pb2.SamplingParams(max_tokens=0)),
    ],
)
async def test_a_request_that_can_not_be_served_is_refused(bad: pb.GenerateRequest) -> None:
    """No prompt, an empty one, and what the engine itself refuses are all INVALID_ARGUMENT."""
    async with Host() as host, serving(host) as served:
        bad.lease = (await served.load()).lease.name
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generated(served, bad)

        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_unknown_leases_and_engines_are_not_found() -> None:
    """A lease that has ended is as good as none."""
    async with Host() as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError) as lease:
            await generated(served, prompt("leases/none"))
        with pytest.raises(grpc.aio.AioRpcError) as engine:
            await generated(served, pb.GenerateRequest(engine="engines/none", text="a"))

        assert [reason_of(error.value) for error in (lease, engine)] == ["LEASE_NOT_FOUND", "ENGINE_NOT_FOUND"]


async def test_cancelling_a_generation_reaches_the_engine() -> None:
    """The engine stops making tokens for a call that its client has cancelled."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=500)).lease.name
        call = served.engines.Generate(prompt(lease))
        await call.read()
        call.cancel()
        seconds, surplus = await aborted(host, lease, served)

        assert seconds < ABORT_SECONDS
        assert surplus == 0


async def test_the_deadline_of_a_generation_reaches_the_engine() -> None:
    """A call whose time is over ends in the engine as well."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=500)).lease.name
        with pytest.raises(grpc.aio.AioRpcError) as late:
            async for _ in served.engines.Generate(prompt(lease), timeout=0.3):
                pass
        _, surplus = await aborted(host, lease, served)

        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert surplus == 0


async def test_the_death_of_a_client_reaches_the_engine() -> None:
    """A connection that ends takes its generations with it, those whose client never read included."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0)).lease.name
        async with connected(host.directory / "s") as other:
            idle = [EngineServiceStub(other).Generate(prompt(lease, 4000)) for _ in range(4)]
            await idle[0].read()
        _, surplus = await aborted(host, lease, served)

        assert surplus == 0


async def test_a_client_that_does_not_read_can_still_cancel() -> None:
    """A call that is stuck in its own backlog ends when its client says so."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0, max_model_len=1 << 20)).lease.name
        call = served.engines.Generate(prompt(lease, 1_000_000))
        await call.read()
        link = host.scheduler.engines.entries()[0].supervisor.link
        assert link is not None
        await eventually(lambda: link.generated_tokens > BACKLOG)
        call.cancel()
        _, surplus = await aborted(host, lease, served)

        assert surplus == 0


async def test_a_slow_client_gets_few_large_messages() -> None:
    """Tokens that a client was too slow for come together, and none is missing."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0)).lease.name
        call = served.engines.Generate(prompt(lease, BACKLOG))
        link = host.scheduler.engines.entries()[0].supervisor.link
        assert link is not None
        await eventually(lambda: link.generated_tokens == BACKLOG)
        responses = [response async for response in call]

        assert len(responses) < BACKLOG
        assert [token for response in responses for token in response.token_ids] == [n % 1000 for n in range(BACKLOG)]


async def test_the_death_of_the_engine_ends_a_generation() -> None:
    """A client learns that its engine has died, and that another try is worth it."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load()
        call = served.engines.Generate(prompt(loaded.lease.name))
        responses = aiter(call)
        await anext(responses)
        os.kill(loaded.engine.pid, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError) as died:
            async for _ in responses:
                pass

        assert died.value.code() == grpc.StatusCode.UNAVAILABLE
        assert reason_of(died.value) == "ENGINE_DIED"
