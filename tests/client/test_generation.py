from __future__ import annotations

import pytest

from tests.fakes.samples import tokens
from vllmd.client import Generation
from vllmd.client.generation import finish_reason_text
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2


def test_collects_the_whole_stream() -> None:
    """Text and tokens add up, and the last response brings reason, usage and timings."""
    generation = Generation.collect(tokens())

    assert generation.text == "Once upon a time"
    assert generation.token_ids == [1, 2, 3, 4]
    assert generation.finish_reason == "length"
    assert generation.usage is not None
    assert generation.usage.completion_tokens == 4
    assert generation.time_to_first_token == pytest.approx(0.085)
    assert generation.tokens_per_second == pytest.approx(10.0)


def test_broken_off_stream_has_no_end() -> None:
    """What has come stays, and what has not is None."""
    generation = Generation.collect(tokens()[:2])

    assert generation.text == "Once upon a"
    assert generation.finish_reason is None
    assert generation.tokens_per_second is None


def test_newer_finish_reason_is_its_number() -> None:
    """A value that this client has no name for is shown, not an error."""
    assert finish_reason_text(generation_pb2.FINISH_REASON_STOP) == "stop"
    assert finish_reason_text(99) == "99"  # type: ignore[arg-type]


def test_completions_are_told_apart() -> None:
    """Those of `n` come mixed, each with its index, and log probabilities with the tokens that they are of."""
    stop, length = generation_pb2.FINISH_REASON_STOP, generation_pb2.FINISH_REASON_LENGTH
    one = generation_pb2.TokenLogprobs(candidates=[generation_pb2.Logprob(token_id=1, logprob=-0.5, rank=1)])
    generation = Generation.collect(
        [
            pb.GenerateResponse(index=1, text="b", token_ids=[2], logprobs=[one], prompt_logprobs=[one]),
            pb.GenerateResponse(index=0, text="a", token_ids=[1]),
            pb.GenerateResponse(index=1, finish_reason=stop, stop_reason="END"),
            pb.GenerateResponse(
                index=0, text="a", finish_reason=length, usage=generation_pb2.Usage(completion_tokens=3)
            ),
        ]
    )

    assert (generation.text, generation.finish_reason, generation.stop_reason) == ("aa", "length", "")
    assert [completion.text for completion in generation.completions] == ["aa", "b"]
    assert generation.completions[1].finish_reason == "stop"
    assert generation.completions[1].stop_reason == "END"
    assert generation.completions[1].logprobs == [one]
    assert generation.logprobs == []
    assert generation.prompt_logprobs == [one]
    assert generation.usage is not None
    assert generation.usage.completion_tokens == 3
