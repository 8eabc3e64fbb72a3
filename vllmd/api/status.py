"""Errors in gRPC's words: one table, and one decorator that applies it to every method.

Each error is a `google.rpc.Status` with exactly one `ErrorInfo` of domain `vllmd`, whose metadata holds the
numbers of the message. What is not a `VllmdError` is a bug: the client is told so and no more, the log has it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from vllmd.api import callers, codes, convert
from vllmd.errors import (
    EngineFailed,
    InvalidRequest,
    VllmdError,
)
from vllmd.v1 import engine_pb2

DOMAIN = "vllmd"
_log = logging.getLogger(__name__)
_TRAILER_BYTES = 7 << 10
"""All that an error may take: it travels in a trailer, and gRPC's clients refuse metadata over 8 KiB."""

_MESSAGE_BYTES = 1024
_VALUE_BYTES = 256
_MOST_VIOLATIONS = 8
_PACKING_BYTES = 100
"""What a detail takes beyond its text."""

F = TypeVar("F", bound=Callable[..., Any])


def to_status(error: VllmdError) -> status_pb2.Status:
    """Describe an error for a client, in as many bytes as a trailer holds: much of the text may be a client's own."""
    result = status_pb2.Status(code=codes.of_error(error), message=_cut(error.message, _MESSAGE_BYTES))
    metadata = {name: _cut(value, _VALUE_BYTES) for name, value in error.metadata.items()}
    result.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if error.retry_seconds is not None:
        result.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=convert.duration(error.retry_seconds)))
    if isinstance(error, InvalidRequest) and error.violations:
        result.details.add().Pack(_bad_request(error.violations))
    if isinstance(error, EngineFailed) and error.log_lines:
        # The message travels twice, as gRPC's own, percent-encoded, and in the status, which is base64.
        room = (_TRAILER_BYTES - len(urllib.parse.quote(result.message))) * 3 // 4 - result.ByteSize() - _PACKING_BYTES
        result.details.add().Pack(error_details_pb2.DebugInfo(detail=_last_lines(error.log_lines, room)))
    return result


def to_failure(error: VllmdError) -> engine_pb2.Failure:
    """Describe an error of one of many inputs, which is no status of the call."""
    metadata = {name: _cut(value, _VALUE_BYTES) for name, value in error.metadata.items()}
    return engine_pb2.Failure(
        code=codes.of_error(error),
        reason=error.reason,
        message=_cut(error.message, _MESSAGE_BYTES),
        metadata=metadata,
    )


def _bad_request(violations: Sequence[tuple[str, str]]) -> error_details_pb2.BadRequest:
    result = error_details_pb2.BadRequest()
    for field, description in violations[:_MOST_VIOLATIONS]:
        result.field_violations.add(field=_cut(field, _VALUE_BYTES // 2), description=_cut(description, _VALUE_BYTES))
    return result


def _last_lines(lines: Sequence[str], limit_bytes: int) -> str:
    """Keep the last lines that fit; of a last one that is too long alone, its beginning."""
    kept = [_cut(lines[-1], limit_bytes)]
    size = len(kept[0].encode())
    for line in reversed(lines[:-1]):
        size += len(line.encode(errors="replace")) + 1
        if size > limit_bytes:
            break
        kept.append(_cut(line, limit_bytes))
    return "\n".join(reversed(kept))


def _cut(text: str, limit_bytes: int) -> str:
    """Cut a text to so many bytes of UTF-8, and make it valid."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode()
    return encoded[: limit_bytes - len("…".encode())].decode(errors="ignore") + "…"


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
    """End a call with an error."""
    if not isinstance(error, VllmdError):
        _log.error("a call failed unexpectedly", exc_info=error)
        error = EngineFailed("INTERNAL", "The daemon failed at this call; its log says why.")
    if isinstance(error, EngineFailed) and not callers.may_read_logs():
        error = EngineFailed(error.reason, error.message, **error.metadata)
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


def raising(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Let a method raise `VllmdError`: a unary one, or a streaming one that writes its responses itself."""

    @functools.wraps(method)
    async def wrapped(self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(self, request, context)
        except Exception as error:  # noqa: BLE001 - the boundary: everything becomes a status
            await abort(context, error)

    return wrapped


def streaming(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """Let a server-streaming method raise `VllmdError`."""

    @functools.wraps(method)
    async def wrapped(self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            # Leaving `async for` does not close a generator, and what this one holds must not wait for a collector.
            async with contextlib.aclosing(method(self, request, context)) as responses:  # type: ignore[type-var]
                async for response in responses:
                    yield response
        except Exception as error:  # noqa: BLE001 - the boundary: everything becomes a status
            await abort(context, error)

    return wrapped
