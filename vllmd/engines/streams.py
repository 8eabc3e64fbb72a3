"""One generation, between the link that fills it and the RPC that empties it."""

from __future__ import annotations

import asyncio
import collections
import dataclasses

from vllmd.errors import Exhausted, VllmdError
from vllmd.worker.protocol import Candidate, Delta

PIECE_TOKENS = 4096
PIECE_CANDIDATES = 8192
"""Of log probabilities. A chunk is no longer than this and a delta, as each becomes a message, made on the loop."""
MOST_BYTES = 64 << 20
"""What may gather for a reader, by these estimates of Python's objects."""
_TOKEN_BYTES = 64
_CANDIDATE_BYTES = 160


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


class _Piece:
    """What there is of a completion for one chunk, if it is more than a delta."""

    __slots__ = ("candidates", "finish", "logprobs", "prompt_logprobs", "size", "stop", "text", "tokens")

    def __init__(self, delta: Delta) -> None:
        self.text = [delta.text]
        self.tokens = delta.token_ids
        self.finish = delta.finish_reason
        self.stop = delta.stop_reason
        self.logprobs = delta.logprobs
        self.prompt_logprobs = delta.prompt_logprobs
        self.candidates = _candidates(delta)
        self.size = _size(delta, self.candidates)

    @property
    def full(self) -> bool:
        """True if what comes next is for another chunk."""
        return len(self.tokens) >= PIECE_TOKENS or self.candidates >= PIECE_CANDIDATES

    def add(self, delta: Delta) -> int:
        """Add what has come; returns by how much the piece has grown."""
        self.text.append(delta.text)
        self.tokens += delta.token_ids
        if delta.finish_reason is not None:
            self.finish, self.stop = delta.finish_reason, delta.stop_reason
        if delta.logprobs is not None:
            self.logprobs = self.logprobs or []
            self.logprobs += delta.logprobs
        candidates = _candidates(delta)
        size = _size(delta, candidates)
        self.candidates += candidates
        self.size += size
        return size


def _candidates(delta: Delta) -> int:
    return sum(map(len, delta.logprobs)) if delta.logprobs else 0


def _size(delta: Delta, candidates: int) -> int:
    return len(delta.text) + len(delta.token_ids) * _TOKEN_BYTES + candidates * _CANDIDATE_BYTES


class Stream:
    """Gathers deltas until somebody asks for them, so that a slow reader gets few large chunks.

    One for whom too much has gathered gets no more of it. The completions of a stream take turns: whose tokens have
    waited longest has the next chunk.

    Args:
        stream_id: its number on the link.
        compiles: whether something has to be compiled before its first token.
        bounded: whether its reader may be slow: one of the daemon's own is not.
    """

    __slots__ = (
        "_bounded",
        "_compiles",
        "_error",
        "_finished",
        "_gathered",
        "_only",
        "_waiter",
        "_waiting_bytes",
        "cached_tokens",
        "completion_tokens",
        "id",
        "prompt_tokens",
    )

    def __init__(self, stream_id: int, *, compiles: bool = False, bounded: bool = True) -> None:
        self.id = stream_id
        self._compiles = compiles
        self._bounded = bounded
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        """Of all completions."""
        self._only: Delta | None = None
        """What has come, while that is a single delta, as it mostly is: then nothing is gathered."""
        self._gathered: dict[int, collections.deque[_Piece]] = {}
        """By completion, whose tokens have waited longest first; none that is empty."""
        self._waiting_bytes = 0
        """Of what has gathered."""
        self._finished = False
        self._error: VllmdError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """True once nothing more will come."""
        return self._finished or self._error is not None

    @property
    def failed(self) -> bool:
        """True once it ends with an error."""
        return self._error is not None

    @property
    def in_core(self) -> bool:
        """True while tokens are to be expected of it: a grammar may be compiled for minutes before the first."""
        return not self._compiles or self.completion_tokens > 0

    def put(self, delta: Delta) -> None:
        """Add a delta; the reader stays asleep until `wake`. What comes after an error is nobody's."""
        if self._error is not None:
            return
        self.completion_tokens += len(delta.token_ids)
        self.prompt_tokens = delta.prompt_tokens or self.prompt_tokens
        self.cached_tokens = delta.cached_tokens or self.cached_tokens
        if delta.finish_reason is not None and delta.last:
            self._finished = True
        if self._only is not None:
            piece = _Piece(self._only)
            self._gathered[self._only.index] = collections.deque((piece,))
            self._waiting_bytes = piece.size
            self._only = None
        elif not self._gathered:
            if _says_something(delta):
                self._only = delta
            return
        self._gather(delta)

    def _gather(self, delta: Delta) -> None:
        pieces = self._gathered.get(delta.index)
        if pieces is None and not _says_something(delta):
            return
        if pieces is None or pieces[-1].full:
            piece = _Piece(delta)
            self._gathered.setdefault(delta.index, collections.deque()).append(piece)
            self._waiting_bytes += piece.size
        else:
            self._waiting_bytes += pieces[-1].add(delta)
        if self._bounded and self._waiting_bytes > MOST_BYTES:
            self._gathered.clear()
            self._finished = False
            mib = MOST_BYTES >> 20
            message = f"More than {mib} MiB of the answer waited for the client, which did not read it."
            error = Exhausted("READER_TOO_SLOW", message, limit_mib=mib)
            error.retry_seconds = None
            self.fail(error)

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
            return self._oldest()
        assert self._error is not None
        raise self._error

    def _oldest(self) -> Chunk:
        index, pieces = next(iter(self._gathered.items()))
        found = pieces.popleft()
        if not pieces:
            del self._gathered[index]
        self._waiting_bytes -= found.size
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


def _says_something(delta: Delta) -> bool:
    return bool(delta.token_ids or delta.text or delta.finish_reason is not None or delta.prompt_logprobs)
