"""Generate with what goes beyond a prompt and a number of tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import msgspec
import pytest

from tests.fakes.host import DEADLINE_SECONDS, Host
from tests.fakes.served import Served, details_of, reason_of, serving, status_of
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.generation_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    Choice,
    SamplingParams,
    StructuredOutputs,
    Usage,
)


async def generated(served: Served, lease: str, *, priority: int = 0, **params: Any) -> list[pb.GenerateResponse]:
    """Generate to the end from three words."""
    request = pb.GenerateRequest(lease=lease, text="a b c", priority=priority, sampling_params=SamplingParams(**params))
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [response async for response in served.engines.Generate(request)]


async def test_each_completion_has_its_index_and_its_end() -> None:
    """Usage and timings come once, with the last response of all, and count all of them."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(fake_tokens_per_second=0)).lease.name
        responses = await generated(served, lease, n=3, max_tokens=20)
        tokens = {index: [t for r in responses if r.index == index for t in r.token_ids] for index in range(3)}
        ends = [response for response in responses if response.finish_reason]

        assert tokens == {index: list(range(100 * index, 100 * index + 20)) for index in range(3)}
        assert sorted(end.index for end in ends) == [0, 1, 2]
        assert {end.finish_reason for end in ends} == {FINISH_REASON_LENGTH}
        assert responses[-1] is ends[-1]
        assert ends[-1].usage == Usage(prompt_tokens=3, completion_tokens=60)
        assert not any(response.HasField("usage") or response.HasField("timings") for response in responses[:-1])


async def test_log_probabilities_come_with_their_tokens() -> None:
    """Those of the prompt with the first response."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        responses = await generated(served, lease, max_tokens=5, logprobs=2, prompt_logprobs=0)

        assert [len(place.candidates) for place in responses[0].prompt_logprobs] == [0, 1, 1]
        assert not any(response.prompt_logprobs for response in responses[1:])
        for response in responses:
            chosen = [place.candidates[0].token_id for place in response.logprobs]
            assert chosen == list(response.token_ids)
            assert {len(place.candidates) for place in response.logprobs} == {2}


async def test_a_constraint_decides_the_text() -> None:
    """And its end is a stop."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        outputs = StructuredOutputs(choice=Choice(texts=["definitely", "no"]))
        responses = await generated(served, lease, structured_outputs=outputs)

        assert "".join(response.text for response in responses) == "definitely"
        assert responses[-1].finish_reason == FINISH_REASON_STOP


async def test_truncation_is_seen_in_the_usage() -> None:
    """The prompt had more."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        responses = await generated(served, lease, max_tokens=1, truncate_prompt_tokens=2)

        assert responses[-1].usage.prompt_tokens == 2


async def test_a_priority_needs_an_engine_that_heeds_it() -> None:
    """FAILED_PRECONDITION with what to load it with; not for 0, which is everybody's."""
    async with Host() as host, serving(host) as served:
        plain = (await served.load()).lease.name
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generated(served, plain, priority=-5)
        heeding = (await served.load("fake/other", scheduling_policy="priority")).lease.name

        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert reason_of(refused.value) == "PRIORITY_UNSUPPORTED"
        assert (await generated(served, heeding, priority=-5, max_tokens=1))[-1].usage.completion_tokens == 1


async def test_all_wrong_fields_reach_the_client_in_one_error() -> None:
    """As BadRequest, which any client of gRPC can read."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generated(served, lease, temperature=float("nan"), n=0, stop=[""])
        details: Any = details_of(status_of(refused.value))

        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(refused.value) == "INVALID_SAMPLING_PARAMS"
        assert [(one.field, one.description) for one in details["BadRequest"].field_violations] == [
            ("sampling_params.n", "1 to 64, not 0"),
            ("sampling_params.temperature", "0 to 2, not nan"),
            ("sampling_params.stop", "an empty string is in it"),
        ]


async def test_what_the_engine_refuses_has_its_reason_and_numbers() -> None:
    """A prompt that is too long is told from others, with how long it may be."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load(max_model_len=3)).lease.name
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generated(served, lease)
        info: Any = details_of(status_of(refused.value))["ErrorInfo"]

        assert info.reason == "PROMPT_TOO_LONG"
        assert dict(info.metadata) == {"prompt_tokens": "3", "max_model_len": "3"}


async def test_an_engine_of_an_earlier_vllmd_goes_on_to_serve_what_it_can() -> None:
    """What it would ignore is refused, with what helps."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        link = host.scheduler.engines.entries()[0].supervisor.link
        assert link is not None
        link.hello = msgspec.structs.replace(link.hello, protocol=2)
        with pytest.raises(grpc.aio.AioRpcError, match="release it and load it again") as refused:
            await generated(served, lease, n=2)

        assert reason_of(refused.value) == "ENGINE_OUTDATED"
        assert (await generated(served, lease, max_tokens=2))[-1].usage.completion_tokens == 2
