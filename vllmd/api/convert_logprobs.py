"""Log probabilities as clients get them."""

from __future__ import annotations

from collections.abc import Sequence

from vllmd.v1.generation_pb2 import Logprob, TokenLogprobs
from vllmd.worker.protocol import Candidate


def logprobs(places: Sequence[Sequence[Candidate]]) -> list[TokenLogprobs]:
    """Convert the candidates of each place."""
    return [
        TokenLogprobs(
            candidates=[Logprob(token_id=c.token_id, logprob=c.logprob, rank=c.rank, text=c.text) for c in candidates]
        )
        for candidates in places
    ]
