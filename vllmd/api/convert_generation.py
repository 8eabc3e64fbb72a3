"""What comes of a generation as clients get it, in a stream or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from vllmd.api import convert
from vllmd.engines.streams import Chunk, Stream
from vllmd.v1.engine_service_pb2 import Completion, GenerateResponse
from vllmd.v1.generation_pb2 import Logprob, TokenLogprobs, Usage
from vllmd.worker.protocol import Candidate

_AT_ONCE = 10_000
"""Log probabilities that take the loop some 15 ms."""


def logprobs(places: Sequence[Sequence[Candidate]]) -> list[TokenLogprobs]:
    """Convert the candidates of each place."""
    return [
        TokenLogprobs(
            candidates=[Logprob(token_id=c.token_id, logprob=c.logprob, rank=c.rank, text=c.text) for c in candidates]
        )
        for candidates in places
    ]


async def logprobs_of_many(places: Sequence[Sequence[Candidate]] | None) -> list[TokenLogprobs]:
    """Convert them, in a thread where there are so many that everybody would wait for the loop."""
    places = places or ()
    if sum(map(len, places)) <= _AT_ONCE:
        return logprobs(places)
    return await asyncio.to_thread(logprobs, places)


def set_end(message: GenerateResponse | Completion, chunk: Chunk) -> None:
    """Say in a message why a completion ended, if its chunk does."""
    if chunk.finish_reason is not None:
        message.finish_reason = convert.finish_reason(chunk.finish_reason)
        message.stop_reason = "" if chunk.stop_reason is None else str(chunk.stop_reason)


def usage(stream: Stream) -> Usage:
    """Convert what a stream has counted."""
    return Usage(
        prompt_tokens=stream.prompt_tokens,
        completion_tokens=stream.completion_tokens,
        cached_tokens=stream.cached_tokens,
    )
