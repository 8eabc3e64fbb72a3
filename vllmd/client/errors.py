"""What a call can fail with, under the names that `vllmd.errors` gives it in the daemon.

VllmdError              the daemon refused or failed; `reason` says what for programs, `message` for people
├─ InvalidRequest       the request is wrong whatever the host's state; `violations` names fields
├─ NotFound             no such engine, lease or model
├─ NotPossible          can't be done in this state, or never on this host, or not by this daemon's version
├─ Exhausted            does not fit now; `retry_after` says when it may
├─ Denied               this caller may not
├─ Unauthenticated      who calls is not known
├─ Unavailable          the daemon or the engine can't right now
│  └─ DaemonUnreachable no daemon answers, or the connection to it broke
├─ Cancelled            somebody stopped it on purpose, or this client was closed, or its model released
├─ DeadlineExceeded     the `timeout` of the call passed
└─ EngineFailed         an engine failed; `log_lines` has the end of its log

These are not the daemon's classes: they were made of what came over the wire, so each has its gRPC `code`, and a reason
that this version of the client has never heard of is an error of its code's class. What has neither is the root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc


class VllmdError(Exception):
    """A call failed; `reason` is stable and machine-readable, `message` says what happened and what to do."""

    request_sent = True
    """False if the daemon can't have seen the request, so that trying again is always safe."""
    earlier: VllmdError | None = None
    """What an earlier try of the same call failed with that the daemon may have heard; `None` if there was none."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        *,
        log_lines: tuple[str, ...] = (),
        violations: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(f"{message} ({reason})")
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        """The numbers and names that appear in the message."""
        self.retry_after = retry_after
        """Seconds after which the daemon suggests to try again; `None` if it does not."""
        self.log_lines = log_lines
        """The last lines of the engine's log, where the engine is what failed."""
        self.violations = violations
        """Fields of the request that were refused, each with the reason."""

    def __reduce__(self) -> tuple[Any, ...]:
        # For `copy` and `pickle`, which would call `__init__` with the text alone. A copy has no traceback: one error
        # that is raised again and again has those of all times, and keeps every frame that it went through.
        return VllmdError.__new__, (type(self), *self.args), vars(self)


class InvalidRequest(VllmdError):
    """The request is wrong, whatever the state of the host."""


class NotFound(VllmdError):
    """There is no such engine, lease or model."""


class NotPossible(VllmdError):
    """It can't be done in this state, or never on this host, or not by a daemon of this version."""


class Exhausted(VllmdError):
    """It does not fit now."""


class Denied(VllmdError):
    """Who calls is known, and may not."""


class Unauthenticated(VllmdError):
    """Who calls is not known."""


class Unavailable(VllmdError):
    """The daemon or the engine can't right now."""


class DaemonUnreachable(Unavailable):
    """No daemon answers at `target`, or it went away during the call."""

    def __init__(self, target: str, message: str, *, request_sent: bool, was_there: bool = False) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, "DAEMON_UNREACHABLE", message, {"target": target})
        self.target = target
        self.request_sent = request_sent
        self.was_there = was_there
        """True if a daemon had taken the call and went away during it."""


class Cancelled(VllmdError):
    """Somebody stopped it on purpose."""


class DeadlineExceeded(VllmdError):
    """The time that the caller gave the call passed; the daemon may have done what was asked."""


class EngineFailed(VllmdError):
    """An engine failed, or the daemon itself did."""
