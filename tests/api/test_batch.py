from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import grpc
import msgspec
import pytest

from tests.fakes.host import DEADLINE_SECONDS, Host, eventually
from tests.fakes.served import Served, details_of, reason_of, serving, status_of
from vllmd.api import batch, limits
from vllmd.engines.link import Link
from vllmd.engines.streams import Stream
from vllmd.errors import InvalidRequest
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.generation_pb2 import Prompt, SamplingParams, TokenPrompt
from vllmd.worker.protocol import Delta


def text(*words: str) -> Prompt:
    return Prompt(text=" ".join(words))


def tokens(*token_ids: int) -> Prompt:
    return Prompt(tokens=TokenPrompt(token_ids=token_ids))


def batch_of(lease: str, *prompts: Prompt, max_tokens: int = 3, **more: Any) -> pb.GenerateBatchRequest:
    params = SamplingParams(max_tokens=max_tokens)
    return pb.GenerateBatchRequest(lease=lease, prompts=prompts, sampling_params=params, **more)


async def results(served: Served, request: pb.GenerateBatchRequest) -> list[pb.GenerateBatchResponse]:
    """Generate to the end."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [response async for response in served.engines.GenerateBatch(request)]


async def vectors(served: Served, request: pb.EmbedRequest) -> list[pb.EmbedResponse]:
    """Embed to the end."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [response async for response in served.engines.Embed(request)]


def link_of(host: Host) -> Link:
    link = host.scheduler.engines.entries()[0].supervisor.link
    assert link is not None
    return link


async def test_a_batch_has_a_result_for_each_prompt() -> None:
    """Whole, with its index, usage and time; each kind of prompt is one."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0)).lease.name
        chat = generation_pb2.ChatPrompt(messages=[generation_pb2.ChatMessage(role="user", content="a b c d")])
        found = await results(served, batch_of(lease, text("one"), tokens(1, 2, 3), Prompt(chat=chat), max_tokens=5))
        by_index = {response.prompt_index: response.generated for response in found}

        assert [by_index[index].usage.prompt_tokens for index in range(3)] == [1, 3, 4]
        for generated in by_index.values():
            (completion,) = generated.completions
            assert completion.token_ids == [0, 1, 2, 3, 4]
            assert completion.text.split() == ["w0", "w1", "w2", "w3", "w4"]
            assert completion.finish_reason == generation_pb2.FINISH_REASON_LENGTH
            assert generated.usage.completion_tokens == 5
            assert generated.timings.total.ToNanoseconds() > 0


async def test_a_bad_prompt_gets_an_error_of_its_own() -> None:
    """The daemon's errors as well as the engine's; the rest goes on."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0)).lease.name
        bad = (Prompt(), tokens(), tokens(5, 1000))
        found = await results(served, batch_of(lease, text("a"), *bad, text("b")))
        failed = {response.prompt_index: response.failure for response in found if response.HasField("failure")}

        assert {index: failure.reason for index, failure in failed.items()} == {
            1: "INVALID_FIELD",
            2: "INVALID_FIELD",
            3: "TOKEN_OUT_OF_VOCABULARY",
        }
        assert failed[3].metadata["vocab_size"] == "1000"
        assert {response.prompt_index for response in found} - failed.keys() == {0, 4}


async def test_many_prompts_go_through_a_bounded_window() -> None:
    """All are served, and never more at once than twice what the engine runs."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0, max_num_seqs=4)).lease.name
        link, most = link_of(host), 0
        call = served.engines.GenerateBatch(batch_of(lease, *[text("a")] * 500, max_tokens=2))
        indices = []
        async for response in call:
            most = max(most, link.running)
            indices.append(response.prompt_index)

        assert sorted(indices) == list(range(500))
        assert 0 < most <= 8


async def test_results_come_in_the_order_of_completion() -> None:
    """A prompt that takes long holds nobody up: one with fewer tokens to go has its result first."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0, max_model_len=8)).lease.name
        found = await results(served, batch_of(lease, tokens(1), Prompt(), text("a")))

        assert found[0].prompt_index == 1  # refused before the engine had made anything


async def test_a_client_that_never_reads_makes_the_daemon_hold_no_more_than_a_window() -> None:
    """The engine is not made to generate what nobody takes, and the call can be cancelled."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0, max_num_seqs=4)).lease.name
        link = link_of(host)
        call = served.engines.GenerateBatch(batch_of(lease, *[text("a")] * limits.MAX_PROMPTS, max_tokens=300))
        await eventually(lambda: link.generated_tokens and not link.running)
        made = link.generated_tokens
        call.cancel()
        await eventually(lambda: host.scheduler.engines.entries()[0].using == 0)

        assert made < limits.MAX_PROMPTS * 300 / 2


@pytest.mark.parametrize("way", ["cancel", "deadline"])
async def test_the_end_of_a_batch_reaches_the_engine(way: str) -> None:
    """All that runs is aborted, and nothing of the rest begun."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=50)).lease.name
        timeout = 0.4 if way == "deadline" else None
        call = served.engines.GenerateBatch(batch_of(lease, *[text("a")] * 20, max_tokens=4000), timeout=timeout)
        link = link_of(host)
        await eventually(lambda: link.running == 20)
        if way == "cancel":
            call.cancel()
        await eventually(lambda: link.running == 0)
        answer = await results(served, batch_of(lease, text("a"), max_tokens=2))

        assert len(answer) == 1
        assert host.scheduler.engines.entries()[0].using == 0


async def test_the_death_of_the_engine_ends_a_batch_after_what_was_complete() -> None:
    """With the engine's error, and not with one for each prompt that was left."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load(fake_tokens_per_second=20)
        prompts = [text("a")] * 5
        call = served.engines.GenerateBatch(batch_of(loaded.lease.name, Prompt(), *prompts, max_tokens=4000))
        responses = aiter(call)
        first = await anext(responses)
        os.kill(loaded.engine.pid, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError) as died:
            await anext(responses)

        assert first.failure.reason == "INVALID_FIELD"
        assert died.value.code() == grpc.StatusCode.UNAVAILABLE
        assert reason_of(died.value) == "ENGINE_DIED"


async def test_a_batch_keeps_the_engine_and_counts_as_one_call() -> None:
    """It is used while a batch runs, lease or none, and stops as it would after a generation."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load(fake_tokens_per_second=50)
        request = batch_of("", *[text("a")] * 3, max_tokens=10)
        request.engine = loaded.engine.name
        call = served.engines.GenerateBatch(request)
        entry = host.scheduler.engines.entries()[0]
        await eventually(lambda: entry.using)
        using = entry.using
        await served.engines.Release(pb.ReleaseRequest(lease=loaded.lease.name), timeout=DEADLINE_SECONDS)
        found = [response async for response in call]

        assert using == 1
        assert len(found) == 3
        await eventually(lambda: entry.supervisor.state.ended)


@pytest.mark.parametrize(
    ("count", "reason"), [(0, "INVALID_FIELD"), (limits.MAX_PROMPTS + 1, "TOO_MANY_PROMPTS")], ids=["none", "too many"]
)
async def test_a_batch_has_a_size(count: int, reason: str) -> None:
    """The error of one that is too large names the limits, of bytes too."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await results(served, batch_of(lease, *[text("a")] * count))
        with pytest.raises(grpc.aio.AioRpcError) as vector:
            await vectors(served, pb.EmbedRequest(lease=lease, inputs=[text("a")] * count))

        assert refused.value.code() == vector.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(refused.value) == reason_of(vector.value) == reason
        assert count == 0 or "10000, and 16 MiB in all" in (refused.value.details() or "")


async def test_priority_and_salt_reach_the_engine() -> None:
    """With each prompt, and the wish for whole results."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        sent: list[Any] = []
        link = link_of(host)
        send, link._send = link._send, lambda request, stream: (sent.append(request), send(request, stream))  # type: ignore[method-assign,func-returns-value,assignment]
        await results(served, batch_of(lease, text("a"), cache_salt="s", priority=0, max_tokens=1))

        assert [(request.cache_salt, request.priority, request.whole) for request in sent] == [("s", 0, True)]


async def test_workers_of_before_serve_batches_too() -> None:
    """In pieces, which are gathered; what they don't know is refused."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0)).lease.name
        link = link_of(host)
        link.hello = msgspec.structs.replace(link.hello, protocol=2)
        found = await results(served, batch_of(lease, text("a"), max_tokens=3))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await results(served, batch_of(lease, text("a"), cache_salt="s"))

        assert found[0].generated.completions[0].token_ids == [0, 1, 2]
        assert reason_of(refused.value) == "ENGINE_OUTDATED"


async def test_pieces_are_gathered_to_the_end() -> None:
    """Text, tokens and what ended it."""
    stream = Stream(1)
    gathering = asyncio.get_running_loop().create_task(batch.gather(stream))
    for delta in (Delta(1, "a ", [1], prompt_tokens=4, cached_tokens=2), Delta(1, "b", [2, 3], "stop", "\n")):
        stream.put(delta)
        stream.wake()
        await asyncio.sleep(0)
    generated = await gathering

    assert generated.completions[0] == pb.Completion(
        text="a b", token_ids=[1, 2, 3], finish_reason=generation_pb2.FINISH_REASON_STOP, stop_reason="\n"
    )
    assert generated.usage == generation_pb2.Usage(prompt_tokens=4, completion_tokens=3, cached_tokens=2)


def test_a_result_that_no_message_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC would end the whole call for it."""
    response = pb.GenerateBatchResponse(generated=pb.Generated(completions=[pb.Completion(text="x" * 1000)]))
    monkeypatch.setattr(limits, "MAX_RESPONSE_BYTES", 500)
    with pytest.raises(InvalidRequest) as refused:
        batch.sendable(response)

    assert refused.value.reason == "RESULT_TOO_LARGE"


async def test_a_daemon_that_drains_takes_no_batch() -> None:
    """As it takes no generation."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        host.scheduler.draining = True
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await results(served, batch_of(lease, text("a")))

        assert reason_of(refused.value) == "DRAINING"
        assert "RetryInfo" in details_of(status_of(refused.value))
