"""One generation, between the link that fills it and the RPC that empties it."""

from __future__ import annotations

import asyncio
import dataclasses

from vllmd.errors import VllmdError
from vllmd.worker.protocol import Delta


@dataclasses.dataclass(slots=True)
class Chunk:
    """What a stream got since its last chunk."""

    text: str
    token_ids: list[int]
    finish_reason: str | None
    stop_reason: str | int | None


class Stream:
    """Gathers deltas until somebody asks for them, so that a slow reader gets few large chunks.

    What gathers is bounded by the generation's own length.
    """

    __slots__ = (
        "_error",
        "_finish",
        "_stop",
        "_text",
        "_tokens",
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
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._finish: str | None = None
        self._stop: str | int | None = None
        self._error: VllmdError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """True once nothing more will come."""
        return self._finish is not None or self._error is not None

    def put(self, delta: Delta) -> None:
        """Add a delta; the reader stays asleep until `wake`."""
        if delta.text:
            self._text.append(delta.text)
        self._tokens += delta.token_ids
        self.completion_tokens += len(delta.token_ids)
        self.prompt_tokens = delta.prompt_tokens or self.prompt_tokens
        self.cached_tokens = delta.cached_tokens or self.cached_tokens
        if delta.finish_reason is not None:
            self._finish, self._stop = delta.finish_reason, delta.stop_reason

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
        """Wait for the next chunk; the one with a finish reason is the last.

        Raises:
            VllmdError: the generation failed.
        """
        while not self._tokens and not self._text and not self.ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._tokens or self._text or self._finish is not None:
            chunk = Chunk("".join(self._text), self._tokens, self._finish, self._stop)
            self._text, self._tokens = [], []
            return chunk
        assert self._error is not None
        raise self._error
