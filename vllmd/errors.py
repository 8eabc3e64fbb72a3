"""What can go wrong, as the rest of vllmd says it; `api.status` turns it into gRPC's words.

    VllmdError                     reason, message, metadata
    ├─ InvalidRequest              the request is wrong whatever the host's state
    ├─ NotFound                    no such engine, lease or model
    ├─ NotPossible                 can't be done in this state, or never on this host
    ├─ Exhausted                   does not fit now; try again later
    ├─ Denied                      this caller may not
    ├─ Unauthenticated             who calls is not known
    ├─ Unavailable                 this daemon or engine can't right now
    ├─ Cancelled                   somebody stopped it on purpose
    └─ EngineFailed                an engine failed; carries the end of its log

A reason is UPPER_SNAKE and stable: programs decide by it. The message is for people: what happened, then
what to do. Every number in the message is in the metadata too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class VllmdError(Exception):
    """Root of all errors that a client may see."""

    retry_seconds: float | None = None
    """After how long another try may succeed; `None` if nothing says that it would."""

    def __init__(self, reason: str, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {key: str(value) for key, value in metadata.items()}


class InvalidRequest(VllmdError):
    """The request is wrong, whatever the state of the host."""

    violations: tuple[tuple[str, str], ...] = ()
    """The fields that are wrong, each with what it should be, where that is known of all of them."""

    def naming(self, *violations: tuple[str, str]) -> Self:
        """Name the fields that are wrong."""
        self.violations = violations
        return self


class NotFound(VllmdError):
    """There is no such engine, lease or model."""


class NotPossible(VllmdError):
    """It can't be done in this state, or never on this host."""


class Exhausted(VllmdError):
    """It does not fit now."""

    retry_seconds: float | None = 5.0


class Denied(VllmdError):
    """Who calls is known, and may not."""


class Unauthenticated(VllmdError):
    """Who calls is not known."""


class Unavailable(VllmdError):
    """The daemon or the engine can't right now."""

    def __init__(self, reason: str, message: str, retry_seconds: float | None = 1.0, **metadata: object) -> None:
        super().__init__(reason, message, **metadata)
        self.retry_seconds = retry_seconds


class Cancelled(VllmdError):
    """Somebody stopped it on purpose."""


class EngineFailed(VllmdError):
    """An engine failed; *log_lines* are the last of its log."""

    def __init__(self, reason: str, message: str, log_lines: Sequence[str] = (), **metadata: object) -> None:
        super().__init__(reason, message, **metadata)
        self.log_lines = tuple(log_lines)
