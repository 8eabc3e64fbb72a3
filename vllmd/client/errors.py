"""What a call can fail with.

VllmdError              the daemon refused or failed; `reason` says what for programs, `message` for people
└── DaemonUnreachable   no daemon answers, or the connection to it broke
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

_DOMAIN = "vllmd"
_Detail = TypeVar("_Detail", bound=Message)


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
        self.retry_after = retry_after
        """Seconds after which the daemon suggests to try again; `None` if it does not."""
        self.log_lines = log_lines
        """The last lines of the engine's log, where the engine is what failed."""
        self.violations = violations
        """Fields of the request that were refused, each with the reason."""


class DaemonUnreachable(VllmdError):
    """No daemon answers at `target`, or it went away during the call."""

    def __init__(self, target: str, message: str, *, request_sent: bool, was_there: bool = False) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, "DAEMON_UNREACHABLE", message, {"target": target})
        self.target = target
        self.request_sent = request_sent
        self.was_there = was_there
        """True if a daemon had taken the call and went away during it."""

    @classmethod
    def from_details(cls, target: str, details: str) -> Self:
        """Say in words what gRPC's own text means."""
        if any(clue in details for clue in ("Socket closed", "GOAWAY", "reset by peer", "Cancelling all calls")):
            return cls(target, f"the connection to the daemon at {target} broke", request_sent=True, was_there=True)
        # gRPC has no typed form of these; only the wording of the message depends on them.
        for clue, cause in (
            ("No such file", "there is no such socket"),
            ("Permission denied", "permission denied"),
            ("Connection refused", "nobody listens there"),
            ("errors resolving", "the address can't be resolved"),
        ):
            if clue in details:
                return cls(target, f"no daemon answers at {target}: {cause}", request_sent=False)
        return cls(target, f"no daemon answers at {target}: {details}", request_sent="failed to connect" not in details)


def from_call(error: grpc.RpcError, target: str) -> VllmdError:
    """Turn what gRPC raised into what this client raises."""
    # Every error that gRPC's sync stack raises is also the call, which has the code and the details.
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    if status is not None:
        return from_status(error.code(), status)
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return DaemonUnreachable.from_details(target, details)
    if error.code() is grpc.StatusCode.CANCELLED and "Channel closed" not in details:
        # Neither this client nor the daemon's own code ends a call like this: its server did, as it went down.
        message = f"the daemon at {target} went down during the call"
        return DaemonUnreachable(target, message, request_sent=True, was_there=True)
    return VllmdError(error.code(), error.code().name, details or error.code().name.lower())


def from_status(code: grpc.StatusCode, status: status_pb2.Status) -> VllmdError:
    """Read the typed details of the daemon's status."""
    info = _detail(status, error_details_pb2.ErrorInfo())
    retry = _detail(status, error_details_pb2.RetryInfo())
    debug = _detail(status, error_details_pb2.DebugInfo())
    bad = _detail(status, error_details_pb2.BadRequest())
    known = info is not None and info.domain == _DOMAIN
    return VllmdError(
        code,
        info.reason if info is not None and known else code.name,
        status.message,
        info.metadata if info is not None else None,
        retry.retry_delay.ToTimedelta().total_seconds() if retry is not None else None,
        log_lines=tuple(debug.detail.splitlines()) if debug is not None else (),
        violations=tuple((v.field, v.description) for v in bad.field_violations) if bad is not None else (),
    )


def _detail(status: status_pb2.Status, wanted: _Detail) -> _Detail | None:
    return next((wanted for detail in status.details if detail.Unpack(wanted)), None)
