"""What `/set` may set: parameters of the requests, by the names that the API has. Pure."""

from __future__ import annotations

import difflib
import json
import math
from typing import TYPE_CHECKING, Any

from vllmd.cli.options.inputs import from_json

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

_NOT_IN_A_CHAT = ("n", "logprobs", "prompt_logprobs")
_OF_THE_REQUEST: dict[str, tuple[type, str]] = {
    "lora": (str, "the name of an adapter"),
    "priority": (int, "a whole number"),
    "cache_salt": (str, "text"),
    "template_args": (dict, "a JSON object"),
}

RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, math.inf),
    "min_tokens": (0, math.inf),
    "truncate_prompt_tokens": (1, math.inf),
    "temperature": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0, math.inf),
}
"""Outside of these no daemon takes them; where it takes less, or it depends on the model, its answer says so."""


def names() -> list[str]:
    """List all names."""
    from vllmd.v1.generation_pb2 import SamplingParams

    of_sampling = [field.name for field in SamplingParams.DESCRIPTOR.fields if field.name not in _NOT_IN_A_CHAT]
    return sorted([*of_sampling, *_OF_THE_REQUEST])


def parse(name: str, text: str) -> Any:
    """Read the value of a parameter, as JSON where it is no plain text.

    Raises:
        ValueError: there is no parameter of that name, or the value is of another kind.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"; did you mean {near[0]}?" if near else f": it can be {', '.join(names())}"
        raise ValueError(f"there is no parameter {name}{hint}")
    value = _json_or_text(text)
    if name in _OF_THE_REQUEST:
        kind, words = _OF_THE_REQUEST[name]
        value = text if kind is str else value
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ValueError(f"{name} takes {words}")
        return value
    return _of_sampling(name, value, text)


def check(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters from a file if each is one; raises `ValueError` as `parse`."""
    return {name: parse(name, one if isinstance(one, str) else json.dumps(one)) for name, one in parameters.items()}


def _of_sampling(name: str, value: Any, text: str) -> Any:
    from vllmd.client.sampling import sampling_params
    from vllmd.v1.generation_pb2 import SamplingParams

    field = SamplingParams.DESCRIPTOR.fields_by_name[name]
    if name == "logit_bias" and isinstance(value, dict):
        value = {int(token) if token.isdecimal() else token: bias for token, bias in value.items()}
    elif field.is_repeated and not isinstance(value, list):
        value = [text if _is_text(field) else value]
    try:
        sampling_params({name: value})
    except (TypeError, ValueError) as error:
        reason = f": {error}" if name == "structured_outputs" else ""
        raise ValueError(f"{name} takes {_kind(field)}{reason}") from None
    _check_range(name, value)
    return value


def _check_range(name: str, value: Any) -> None:
    least, most = RANGES.get(name, (-math.inf, math.inf))
    if name in RANGES and not least <= value <= most:  # NaN, too
        raise ValueError(f"{name} is at least {least}" if most == math.inf else f"{name} is {least} to {most}")


def _json_or_text(text: str) -> Any:
    try:
        return from_json(text)
    except (ValueError, RecursionError):
        return {"on": True, "off": False}.get(text, text)


def _is_text(field: FieldDescriptor) -> bool:
    return bool(field.cpp_type == field.CPPTYPE_STRING)


def _kind(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return "a JSON object"
    if _is_text(field):
        kind = "text"
    elif field.cpp_type == field.CPPTYPE_BOOL:
        kind = "on or off"
    else:
        kind = "a number" if field.cpp_type == field.CPPTYPE_DOUBLE else "a whole number"
    return f"{kind}, or a JSON list of such" if field.is_repeated else kind
