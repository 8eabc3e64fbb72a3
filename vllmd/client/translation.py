"""From what gRPC and the daemon say of a failure to the client's errors. Pure."""

from __future__ import annotations

from typing import Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from vllmd.client.errors import (
    Cancelled,
    DaemonUnreachable,
    DeadlineExceeded,
    Denied,
    EngineFailed,
    Exhausted,
    InvalidRequest,
    NotFound,
    NotPossible,
    Unauthenticated,
    Unavailable,
    VllmdError,
)
from vllmd.v1 import engine_pb2

_DOMAIN = "vllmd"
_Detail = TypeVar("_Detail", bound=Message)
_Code = grpc.StatusCode

_CLASSES: dict[grpc.StatusCode, type[VllmdError]] = {
    _Code.INVALID_ARGUMENT: InvalidRequest,
    _Code.OUT_OF_RANGE: InvalidRequest,
    _Code.NOT_FOUND: NotFound,
    _Code.FAILED_PRECONDITION: NotPossible,
    _Code.ALREADY_EXISTS: NotPossible,
    _Code.UNIMPLEMENTED: NotPossible,
    _Code.RESOURCE_EXHAUSTED: Exhausted,
    _Code.PERMISSION_DENIED: Denied,
    _Code.UNAUTHENTICATED: Unauthenticated,
    _Code.UNAVAILABLE: Unavailable,
    _Code.ABORTED: Unavailable,
    _Code.CANCELLED: Cancelled,
    # The daemon says these of engines only, such as of one that did not start in time.
    _Code.DEADLINE_EXCEEDED: EngineFailed,
    _Code.INTERNAL: EngineFailed,
    _Code.DATA_LOSS: EngineFailed,
}
"""Of what the daemon says itself."""

_OF_GRPC: dict[grpc.StatusCode, type[VllmdError]] = {
    **_CLASSES,
    _Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    _Code.INTERNAL: VllmdError,
    _Code.DATA_LOSS: VllmdError,
}
"""Of what gRPC, or a proxy, says in the daemon's place."""

_BROKEN = ("Socket closed", "GOAWAY", "reset by peer", "Cancelling all calls")

_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in _Code}


class _Call(Protocol):
    """What every error that gRPC raises also is, of its synchronous and of its asyncio stack."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...


def from_call(error: grpc.RpcError, target: str) -> VllmdError:
    """Turn what gRPC raised into what this client raises."""
    call = cast("_Call", error)
    status = _status_of(error)
    if status is not None:
        return from_status(call.code(), status)
    code, details = call.code(), call.details() or ""
    if code is _Code.UNAVAILABLE:
        return unreachable(target, details)
    if code is _Code.CANCELLED and "Channel closed" not in details:
        # Neither this client nor the daemon's own code ends a call like this: its server did, as it went down.
        message = f"the daemon at {target} went down during the call"
        return DaemonUnreachable(target, message, request_sent=True, was_there=True)
    if code is _Code.CANCELLED:
        return closed()
    if code is _Code.UNIMPLEMENTED:
        message = f"the daemon at {target} has no such call: it is older than this client; upgrade it"
        return NotPossible(code, "DAEMON_OUTDATED", message, {"target": target})
    if code is _Code.RESOURCE_EXHAUSTED and "larger than max" in details:
        return InvalidRequest(code, "MESSAGE_TOO_LARGE", f"the message is over the size limit: {details}")
    if code is _Code.DEADLINE_EXCEEDED:
        return out_of_time()
    return _OF_GRPC.get(code, VllmdError)(code, code.name, details or code.name.lower())


def from_status(code: grpc.StatusCode, status: status_pb2.Status) -> VllmdError:
    """Read the typed details of the daemon's status."""
    info = _detail(status, error_details_pb2.ErrorInfo())
    retry = _detail(status, error_details_pb2.RetryInfo())
    debug = _detail(status, error_details_pb2.DebugInfo())
    bad = _detail(status, error_details_pb2.BadRequest())
    ours = info is not None and info.domain == _DOMAIN
    return (_CLASSES if ours else _OF_GRPC).get(code, VllmdError)(
        code,
        info.reason if info is not None and ours else code.name,
        status.message,
        info.metadata if info is not None else None,
        retry.retry_delay.ToTimedelta().total_seconds() if retry is not None else None,
        log_lines=tuple(debug.detail.splitlines()) if debug is not None else (),
        violations=tuple((v.field, v.description) for v in bad.field_violations) if bad is not None else (),
    )


def from_failure(failure: engine_pb2.Failure) -> VllmdError:
    """Make an error of what became of one prompt of many."""
    code = _BY_NUMBER.get(failure.code, _Code.UNKNOWN)
    log_lines = tuple(failure.log_lines)
    return _CLASSES.get(code, VllmdError)(code, failure.reason, failure.message, failure.metadata, log_lines=log_lines)


def unreachable(target: str, details: str) -> DaemonUnreachable:
    """Say in words what gRPC's own text means."""
    if any(clue in details for clue in _BROKEN):
        message = f"the connection to the daemon at {target} broke"
        return DaemonUnreachable(target, message, request_sent=True, was_there=True)
    # gRPC has no typed form of these; only the wording of the message depends on them.
    for clue, cause in (
        ("No such file", "there is no such socket"),
        ("Permission denied", "permission denied"),
        ("Connection refused", "nobody listens there"),
        ("errors resolving", "the address can't be resolved"),
    ):
        if clue in details:
            return DaemonUnreachable(target, f"no daemon answers at {target}: {cause}", request_sent=False)
    sent = "failed to connect" not in details
    return DaemonUnreachable(target, f"no daemon answers at {target}: {details}", request_sent=sent)


def out_of_time() -> DeadlineExceeded:
    """Say that the time which the caller gave the call has passed."""
    message = "the timeout of this call has passed; the daemon may have done what was asked"
    return DeadlineExceeded(_Code.DEADLINE_EXCEEDED, _Code.DEADLINE_EXCEEDED.name, message)


def closed() -> Cancelled:
    """Say that the client's own end ended the call, or kept it from being made."""
    return Cancelled(_Code.CANCELLED, "CLIENT_CLOSED", "this client is closed: make another one")


def released(model: str) -> Cancelled:
    """Say that the lease was ended by whoever has it, and no model goes with it any more."""
    return Cancelled(_Code.CANCELLED, "LEASE_RELEASED", f"{model} was released: load it again", {"model": model})


def _status_of(error: grpc.RpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(cast("grpc.Call", error))
    except ValueError:
        # The call was cancelled on this end just as the daemon's own word came: it did not end as that says.
        return None


def _detail(status: status_pb2.Status, wanted: _Detail) -> _Detail | None:
    return next((wanted for detail in status.details if detail.Unpack(wanted)), None)
