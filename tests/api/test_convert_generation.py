from __future__ import annotations

import pytest

from vllmd.api.convert_generation import logprobs, set_end, usage
from vllmd.engines.streams import Chunk, Stream
from vllmd.v1.engine_service_pb2 import Completion, GenerateResponse
from vllmd.v1.generation_pb2 import FINISH_REASON_STOP, Logprob, TokenLogprobs, Usage
from vllmd.worker.protocol import Candidate, Delta


def test_candidates_keep_their_order_and_a_place_may_have_none() -> None:
    """The first token of a prompt follows nothing, so nothing is known of it."""
    chosen, likeliest = Candidate(7, -2.5, 3, "a"), Candidate(9, -0.5, 1, "b")

    assert logprobs([[], [chosen, likeliest]]) == [
        TokenLogprobs(),
        TokenLogprobs(
            candidates=[
                Logprob(token_id=7, logprob=-2.5, rank=3, text="a"),
                Logprob(token_id=9, logprob=-0.5, rank=1, text="b"),
            ]
        ),
    ]


def test_what_can_not_be_is_infinitely_unlikely() -> None:
    """A token that was not allowed has a probability of zero."""
    (place,) = logprobs([[Candidate(7, float("-inf"), 9, "")]])

    assert place.candidates[0].logprob == float("-inf")


@pytest.mark.parametrize("kind", [GenerateResponse, Completion])
def test_an_end_is_told_where_there_is_one(kind: type[GenerateResponse | Completion]) -> None:
    """A token that stopped it is told by its number."""
    going, ended = kind(), kind()
    set_end(going, Chunk("a", [1], None, None))
    set_end(ended, Chunk("a", [1], "stop", 7))

    assert going == kind()
    assert ended == kind(finish_reason=FINISH_REASON_STOP, stop_reason="7")


def test_what_a_stream_has_counted() -> None:
    """Of all its completions."""
    stream = Stream(1)
    stream.put(Delta(1, "a", [1, 2], prompt_tokens=5, cached_tokens=3))

    assert usage(stream) == Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=3)
