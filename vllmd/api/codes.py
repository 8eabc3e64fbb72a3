"""Which gRPC status code an error travels with: its reason's own in the catalogue, else that of its class."""

from __future__ import annotations

from google.rpc import code_pb2

from vllmd import catalog
from vllmd.errors import (
    Cancelled,
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

_OF_CLASS: dict[type[VllmdError], int] = {
    InvalidRequest: code_pb2.INVALID_ARGUMENT,
    NotFound: code_pb2.NOT_FOUND,
    NotPossible: code_pb2.FAILED_PRECONDITION,
    Exhausted: code_pb2.RESOURCE_EXHAUSTED,
    Denied: code_pb2.PERMISSION_DENIED,
    Unauthenticated: code_pb2.UNAUTHENTICATED,
    Unavailable: code_pb2.UNAVAILABLE,
    Cancelled: code_pb2.CANCELLED,
    EngineFailed: code_pb2.INTERNAL,
}


def of_entry(entry: catalog.Entry) -> int:
    """Tell the code of what the catalogue has."""
    return code_pb2.Code.Value(entry.code) if entry.code else _OF_CLASS[entry.error]


def of_error(error: VllmdError) -> int:
    """Tell the code of an error."""
    entry = catalog.find(error.reason)
    return of_entry(entry) if entry is not None else _OF_CLASS[type(error)]


def of_reason(reason: str) -> int:
    """Tell the code of a reason that no error was made of; `UNKNOWN` if an engine of a later vllmd has named it."""
    entry = catalog.find(reason)
    return of_entry(entry) if entry is not None else code_pb2.UNKNOWN
