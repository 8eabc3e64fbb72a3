"""One generation, between the link that fills it and the RPC that empties it."""

from __future__ import annotations

import asyncio
import dataclasses

from vllmd.errors import VllmdError
from vllmd.worker.protocol import Candidate, Delta


@dataclasses.dataclass(slots=True)
class Chunk:
    """What one completion of a stream got since its last chunk."""

    text: str
    token_ids: list[int]
    finish_reason: str | None
    stop_reason: str | int | None
    last: bool = False
    """Nothing comes after it."""
    index: int = 0
    """Which completion."""
    logprobs: list[list[Candidate]] | None = None
    prompt_logprobs: list[list[Candidate]] | None = None
    """In the first chunk of the stream, if they were asked for."""


class _Gathered:
    """What there is of a completion for its next chunk, if it is more than a delta."""

    __slots__ = ("finish", "logprobs", "prompt_logprobs", "stop", "text", "tokens")

    def __init__(self, delta: Delta) -> None:
        self.text = [delta.text]
        self.tokens = delta.token_ids
        self.finish = delta.finish_reason
        self.stop = delta.stop_reason
        self.logprobs = delta.logprobs
        self.prompt_logprobs = delta.prompt_logprobs


class Stream:
    """Gathers deltas until somebody asks for them, so that a slow reader gets few large chunks.

    What gathers is bounded by the generation's own length. The completions of a stream take turns: whose tokens have
    waited longest has the next chunk.
    """

    __slots__ = (
        "_error",
        "_finished",
        "_gathered",
        "_only",
        "_waiter",
        "cached_tokens",
        "completion_tokens",
        "id",
        "prompt_tokens",
    )

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        """Of all completions."""
        self._only: Delta | None = None
        """What has come, while that is a single delta, as it mostly is: then nothing is gathered."""
        self._gathered: dict[int, _Gathered] = {}
        """By completion, whose tokens have waited longest first; none that is empty."""
        self._finished = False
        self._error: VllmdError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """True once nothing more will come."""
        return self._finished or self._error is not None

    def put(self, delta: Delta) -> None:
        """Add a delta; the reader stays asleep until `wake`."""
        self.completion_tokens += len(delta.token_ids)
        self.prompt_tokens = delta.prompt_tokens or self.prompt_tokens
        self.cached_tokens = delta.cached_tokens or self.cached_tokens
        if delta.finish_reason is not None and delta.last:
            self._finished = True
        if self._only is not None:
            self._gathered[self._only.index] = _Gathered(self._only)
            self._only = None
        elif not self._gathered:
            if delta.token_ids or delta.text or delta.finish_reason is not None or delta.prompt_logprobs:
                self._only = delta
            return
        self._gather(delta)

    def _gather(self, delta: Delta) -> None:
        gathered = self._gathered.get(delta.index)
        if gathered is None:
            if delta.token_ids or delta.text or delta.finish_reason is not None or delta.prompt_logprobs:
                self._gathered[delta.index] = _Gathered(delta)
            return
        gathered.text.append(delta.text)
        gathered.tokens += delta.token_ids
        if delta.finish_reason is not None:
            gathered.finish, gathered.stop = delta.finish_reason, delta.stop_reason
        if delta.logprobs is not None:
            gathered.logprobs = gathered.logprobs or []
            gathered.logprobs += delta.logprobs

    def fail(self, error: VllmdError) -> None:
        """End with an error, after what has come before it."""
        if not self.ended:
            self._error = error
        self.wake()

    def wake(self) -> None:
        """Let the reader run, if there is one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Chunk:
        """Wait for the next chunk; after one that is the last there is none.

        Raises:
            VllmdError: the generation failed.
        """
        while self._only is None and not self._gathered and not self.ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if (only := self._only) is not None:
            self._only = None
            return Chunk(
                only.text,
                only.token_ids,
                only.finish_reason,
                only.stop_reason,
                self._finished,
                only.index,
                only.logprobs,
                only.prompt_logprobs,
            )
        if self._gathered:
            index = next(iter(self._gathered))
            found = self._gathered.pop(index)
            return Chunk(
                "".join(found.text),
                found.tokens,
                found.finish,
                found.stop,
                self._finished and not self._gathered,
                index,
                found.logprobs,
                found.prompt_logprobs,
            )
        assert self._error is not None
        raise self._error
