"""What the worker needs of the engine that it hosts; `vllm_backend` and `fake_backend` are the two."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from .protocol import Answer, Candidate, Generate, Question
from .report import EngineInfo, Measured
from .spec import Spec


class InvalidRequest(Exception):
    """The engine can't serve this request as it is; the text says why, for the client.

    Args:
        message: that text.
        reason: UPPER_SNAKE, where programs may want to tell it from others.
        metadata: the numbers of the message.
    """

    kind = "invalid"
    """What `protocol.Refused` calls it."""

    def __init__(self, message: str, reason: str = "", **metadata: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = {name: str(value) for name, value in metadata.items()}


class Impossible(InvalidRequest):
    """The engine can serve no request of this kind, whatever its prompt."""

    kind = "impossible"


class EngineDead(Exception):
    """The engine has failed for good."""


class Output(msgspec.Struct):
    """The next tokens of one completion of a request, as increments. There is one for each token, so it is a struct."""

    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    index: int = 0
    """Which completion."""
    logprobs: list[list[Candidate]] | None = None
    prompt_logprobs: list[list[Candidate]] | None = None
    """With the first output of the request, if at all."""
    last: bool = True
    """With a finish reason: whether no other completion still runs."""


class Backend(Protocol):
    """An engine in this process tree."""

    def load(self, spec: Spec) -> EngineInfo:
        """Load the model; called once, on the main thread, inside the running event loop, which it may block.

        PDEATHSIG is delivered when the *thread* that made a child ends, so an engine that was made by a
        short-lived thread would be killed with it.
        """
        ...

    async def add_adapters(self) -> None:
        """Load the LoRA adapters of the spec; called once, after `load`.

        Raises:
            Exception: one can't be loaded; the engine is of no use.
        """
        ...

    async def measure(self, log: pathlib.Path) -> Measured:
        """Say what was measured during the load; called once, after `load`.

        Args:
            log: what the engine's processes wrote.

        Raises:
            Exception: whatever goes wrong; the engine serves all the same.
        """
        ...

    def capabilities(self) -> tuple[str, ...]:
        """Name what this engine can do; called after `load`."""
        ...

    def generate(self, request: Generate) -> AsyncIterator[Output]:
        """Generate; closing the iterator aborts the request in the engine.

        Raises:
            InvalidRequest: the request can't be served.
            EngineDead: the engine has failed for good.
        """
        ...

    async def answer(self, question: Question) -> Answer:
        """Answer a question; being cancelled, it aborts what it has begun in the engine.

        Raises:
            InvalidRequest: it can't be answered.
            EngineDead: the engine has failed for good.
        """
        ...

    async def ping(self) -> None:
        """Get an answer out of EngineCore's own loop; takes as long as EngineCore does, which may be for ever."""
        ...

    def death(self) -> str | None:
        """Say why the engine is dead, or `None` while it lives; cheap, asked several times a second."""
        ...

    def shutdown(self) -> None:
        """End the engine's processes; called once, may block some seconds."""
        ...
