"""From what clients send to the daemon's values; what makes no sense is refused here."""

from __future__ import annotations

from typing import Any

from google.protobuf import duration_pb2, json_format, struct_pb2

from vllmd.errors import InvalidRequest
from vllmd.planner.use_cases import USE_CASES
from vllmd.scheduler.wish import Wish
from vllmd.v1 import engine_pb2, engine_service_pb2, generation_pb2
from vllmd.worker.protocol import ChatPrompt, Prompt, TextPrompt, TokenPrompt

MAX_TTL_SECONDS = 86400.0
_MAX_STRUCT_BYTES = 64 << 10
_MAX_DEPTH = 8
"""Protobuf reads no message nested deeper than 100 levels, so an answer that holds a struct of 90 can't be read."""
_EXACT = 2**53
"""Beyond this a double is no exact integer, and an integer of it would be longer than any encoding takes."""
_SCALARS = (
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "seed", "skip_special_tokens",
)  # fmt: skip


def struct_values(struct: struct_pb2.Struct, field: str) -> dict[str, Any]:
    """Convert a struct to plain values; JSON has no integers, so whole numbers become ones.

    Raises:
        InvalidRequest: it is larger or deeper than any sensible one, or holds a number that JSON does not have.
    """
    if struct.ByteSize() > _MAX_STRUCT_BYTES:
        message = f"{field} takes {struct.ByteSize()} bytes; at most {_MAX_STRUCT_BYTES} are possible."
        raise InvalidRequest("INVALID_FIELD", message, field=field)
    try:
        values = json_format.MessageToDict(struct)
    except (json_format.Error, ValueError) as error:
        raise InvalidRequest("INVALID_FIELD", f"A value in {field} is not one of JSON's: {error}.") from error
    try:
        return {name: _whole(value, _MAX_DEPTH) for name, value in values.items()}
    except _TooDeep:
        message = f"{field} is nested deeper than {_MAX_DEPTH} levels."
        raise InvalidRequest("INVALID_FIELD", message, field=field) from None


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


def wish(request: engine_service_pb2.LoadModelRequest) -> Wish:
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
            raise InvalidRequest("INVALID_FIELD", message, field=field)
    args = struct_values(request.engine_args, "engine_args")
    return Wish(request.model, request.revision, args, not request.disable_auto_config, use_case(request.use_case))


def use_case(value: engine_pb2.UseCase.ValueType) -> str:
    """Read a use case: its name, empty if there is none.

    Raises:
        InvalidRequest: it is one that a later daemon knows.
    """
    if value not in engine_pb2.UseCase.values():
        known = ", ".join(USE_CASES)
        message = f"This daemon does not know use case {value}: it knows {known}."
        raise InvalidRequest("INVALID_USE_CASE", message, field="use_case")
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
            f"A lease lasts more than 0 s and at most 24 h; {seconds:g} s was asked for.",
            seconds=seconds,
        )
    return seconds


def prompt(request: engine_service_pb2.GenerateRequest) -> Prompt:
    """Read a prompt.

    Raises:
        InvalidRequest: there is none.
    """
    match request.WhichOneof("prompt"):
        case "text":
            return TextPrompt(request.text)
        case "tokens" if request.tokens.token_ids:
            return TokenPrompt(list(request.tokens.token_ids))
        case "chat" if request.chat.messages:
            messages = [{"role": message.role, "content": message.content} for message in request.chat.messages]
            return ChatPrompt(messages, struct_values(request.chat.template_args, "template_args"))
        case None:
            raise InvalidRequest("INVALID_FIELD", "A prompt is required: text, tokens or chat.", field="prompt")
        case empty:
            raise InvalidRequest("INVALID_FIELD", f"The prompt is empty: {empty} holds nothing.", field=empty)


def sampling_params(params: generation_pb2.SamplingParams) -> dict[str, Any]:
    """Read the sampling parameters that the client set, by vLLM's names."""
    found: dict[str, Any] = {name: getattr(params, name) for name in _SCALARS if params.HasField(name)}  # type: ignore[arg-type]
    if params.stop:
        found["stop"] = list(params.stop)
    if params.stop_token_ids:
        found["stop_token_ids"] = list(params.stop_token_ids)
    if params.ignore_eos:
        found["ignore_eos"] = True
    return found
