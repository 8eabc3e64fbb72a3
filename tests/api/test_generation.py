from __future__ import annotations

from tests.fakes.host import Host
from tests.fakes.served import serving
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2


async def test_each_completion_has_an_end_and_the_stream_has_one() -> None:
    """The usage, over all of them, and the times come with the last."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        params = generation_pb2.SamplingParams(n=2, max_tokens=3, logprobs=1, prompt_logprobs=0)
        request = pb.GenerateRequest(lease=lease, text="one two", sampling_params=params)
        responses = [response async for response in served.engines.Generate(request)]
    ends = [one for one in responses if one.finish_reason != generation_pb2.FINISH_REASON_UNSPECIFIED]
    tokens = {index: sum(len(one.token_ids) for one in responses if one.index == index) for index in (0, 1)}

    assert tokens == {0: 3, 1: 3}
    assert sorted(one.index for one in ends) == [0, 1]
    assert [one.HasField("usage") for one in responses] == [False] * (len(responses) - 1) + [True]
    assert responses[-1].usage.completion_tokens == 6
    assert responses[-1].HasField("timings")
    assert all(len(one.logprobs) == len(one.token_ids) for one in responses)
    assert [len(one.prompt_logprobs) for one in responses] == [2] + [0] * (len(responses) - 1)


async def test_what_was_not_asked_for_is_not_sent() -> None:
    """A token of a plain generation is a small message."""
    async with Host() as host, serving(host) as served:
        lease = (await served.load()).lease.name
        request = pb.GenerateRequest(
            lease=lease, text="one", sampling_params=generation_pb2.SamplingParams(max_tokens=3)
        )
        first, *_ = [response async for response in served.engines.Generate(request)]

    assert not first.logprobs
    assert not first.prompt_logprobs
    assert first.ByteSize() < 40
