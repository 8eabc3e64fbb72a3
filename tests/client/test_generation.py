from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.samples import tokens
from vllmd.client import Generation, finish_reason_of
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
    newer: Any = 99

    assert finish_reason_of(pb.GenerateResponse(finish_reason=newer)) == "99"


def test_end_of_a_stream_is_named_as_that_of_the_whole() -> None:
    """What is streamed has a number; the name is the one that `complete` brings, and none before the end."""
    names = [finish_reason_of(part) for part in tokens()]

    assert names == [None, None, Generation.collect(tokens()).finish_reason]
    assert finish_reason_of(pb.Completion(finish_reason=generation_pb2.FINISH_REASON_STOP)) == "stop"


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
