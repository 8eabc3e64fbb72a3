"""From what clients send to the daemon's values; what makes no sense is refused here."""

from __future__ import annotations

from typing import Any, Protocol

from google.protobuf import duration_pb2, json_format, struct_pb2

from vllmd.api import parse_adapters
from vllmd.errors import InvalidRequest
from vllmd.planner.use_cases import USE_CASES
from vllmd.scheduler.wish import Wish
from vllmd.v1 import engine_pb2, engine_service_pb2

MAX_TTL_SECONDS = 86400.0
_MAX_STRUCT_BYTES = 64 << 10
_MAX_DEPTH = 8
"""Protobuf reads no message nested deeper than 100 levels, so an answer that holds a struct of 90 can't be read."""
_EXACT = 2**53
"""Beyond this a double is no exact integer, and an integer of it would be longer than any encoding takes."""


def struct_values(struct: struct_pb2.Struct, field: str, depth: int = _MAX_DEPTH) -> dict[str, Any]:
    """Convert a struct of at most so many levels to plain values; JSON has no integers, so whole numbers become ones.

    Raises:
        InvalidRequest: it is larger or deeper than any sensible one, or holds a number that JSON does not have.
    """
    if struct.ByteSize() > _MAX_STRUCT_BYTES:
        size = struct.ByteSize()
        message = f"{field} takes {size} bytes; at most {_MAX_STRUCT_BYTES} are possible."
        raise InvalidRequest("INVALID_FIELD", message, field=field, bytes=size, limit=_MAX_STRUCT_BYTES)
    try:
        values = json_format.MessageToDict(struct)
    except (json_format.Error, ValueError) as error:
        raise InvalidRequest("INVALID_FIELD", f"A value in {field} is not one of JSON's: {error}.") from error
    try:
        return {name: _whole(value, depth) for name, value in values.items()}
    except _TooDeep:
        message = f"{field} is nested deeper than {depth} levels."
        raise InvalidRequest("INVALID_FIELD", message, field=field, limit=depth) from None


class _TooDeep(Exception):
    """A value is nested deeper than allowed."""


def _whole(value: Any, depth: int) -> Any:
    if depth == 0:
        raise _TooDeep
    match value:
        case float() if value.is_integer() and abs(value) <= _EXACT:
            return int(value)
        case dict():
            return {key: _whole(item, depth - 1) for key, item in value.items()}
        case list():
            return [_whole(item, depth - 1) for item in value]
        case _:
            return value


def id_of(name: str, collection: str) -> str:
    """Take the id out of a resource name such as `engines/qwen3-8b-3f2a`.

    Raises:
        InvalidRequest: it is not the name of such a resource.
    """
    head, slash, resource_id = name.partition("/")
    if head != collection or not slash or not resource_id:
        raise InvalidRequest("INVALID_NAME", f"{name!r} is not a name of the form {collection}/….", name=name)
    return resource_id


def out_of_range(field: str, most: int) -> InvalidRequest:
    """Say that a field is to be from 0 to *most*."""
    return InvalidRequest("INVALID_FIELD", f"{field} is 0 to {most}.", field=field, least=0, limit=most)


def wish(request: engine_service_pb2.LoadModelRequest | engine_service_pb2.PlanModelRequest) -> Wish:
    """Read what a client wants loaded.

    Raises:
        InvalidRequest: it names no model, or is larger than any sensible wish: it stays listed for a while.
    """
    if not request.model:
        raise InvalidRequest(
            "INVALID_FIELD", "model is required: a Hugging Face id or an absolute path.", field="model"
        )
    for field, value, most in (("model", request.model, 4096), ("revision", request.revision, 256)):
        if len(value) > most or not value.isprintable():
            message = f"{field} has at most {most} characters, all of them printable."
            raise InvalidRequest("INVALID_FIELD", message, field=field, limit=most)
    args = struct_values(request.engine_args, "engine_args")
    adapters = parse_adapters.adapters(request.lora_adapters)
    purpose = use_case(request.use_case)
    return Wish(request.model, request.revision, args, not request.disable_auto_config, purpose, adapters)


def use_case(value: engine_pb2.UseCase.ValueType) -> str:
    """Read a use case: its name, empty if there is none.

    Raises:
        InvalidRequest: it is one that a later daemon knows.
    """
    if value not in engine_pb2.UseCase.values():
        known = ", ".join(USE_CASES)
        message = f"This daemon does not know use case {value}: it knows {known}."
        raise InvalidRequest("INVALID_USE_CASE", message, field="use_case", use_case=value)
    name = engine_pb2.UseCase.Name(value).removeprefix("USE_CASE_").lower()
    return "" if value == engine_pb2.USE_CASE_UNSPECIFIED else name


def ttl(value: duration_pb2.Duration, given: bool) -> float | None:
    """Read the length of a lease.

    Raises:
        InvalidRequest: it is not positive, or over a day.
    """
    if not given:
        return None
    seconds = value.seconds + value.nanos * 1e-9
    if not 0 < seconds <= MAX_TTL_SECONDS:
        raise InvalidRequest(
            "INVALID_FIELD",
            f"A lease lasts more than 0 s and at most a day, {MAX_TTL_SECONDS:g} s; {seconds:g} s was asked for.",
            field="ttl",
            seconds=f"{seconds:g}",
            least=0,
            limit=f"{MAX_TTL_SECONDS:g}",
        )
    return seconds


class Targeted(Protocol):
    """A request about an engine."""

    lease: str
    engine: str


def target(request: Targeted) -> tuple[str, str]:
    """Read what a request is about: the id of a lease, or else of an engine; the other is empty.

    Raises:
        InvalidRequest: it gives neither, or both, or something else.
    """
    if bool(request.lease) == bool(request.engine):
        raise InvalidRequest("INVALID_FIELD", "Give either a lease or an engine.", field="lease")
    if request.lease:
        return id_of(request.lease, "leases"), ""
    return "", id_of(request.engine, "engines")
