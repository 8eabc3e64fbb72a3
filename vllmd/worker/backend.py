"""What the worker needs of the engine that it hosts; `vllm_backend` and `fake_backend` are the two."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import AsyncIterator
from typing import Protocol

from .protocol import EngineInfo, Generate, Measured
from .spec import Spec


class InvalidRequest(Exception):
    """The engine can't serve this request as it is; the text says why, for the client."""


class EngineDead(Exception):
    """The engine has failed for good."""


@dataclasses.dataclass(slots=True)
class Output:
    """The next tokens of one request, as increments."""

    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0


class Backend(Protocol):
    """An engine in this process tree."""

    def load(self, spec: Spec) -> EngineInfo:
        """Load the model; called once, on the main thread, inside the running event loop, which it may block.

        PDEATHSIG is delivered when the *thread* that made a child ends, so an engine that was made by a
        short-lived thread would be killed with it.
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

    async def ping(self) -> None:
        """Get an answer out of EngineCore's own loop; takes as long as EngineCore does, which may be for ever."""
        ...

    def death(self) -> str | None:
        """Say why the engine is dead, or `None` while it lives; cheap, asked several times a second."""
        ...

    def shutdown(self) -> None:
        """End the engine's processes; called once, may block some seconds."""
        ...
