from __future__ import annotations

from vllmd.api.convert_logprobs import logprobs
from vllmd.v1.generation_pb2 import Logprob, TokenLogprobs
from vllmd.worker.protocol import Candidate


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
