"""From what a client wants a text to be like to vLLM's structured outputs.

Their meaning is checked by the engine, which has the grammars' compilers; here are form and size, as these compilers
are handed whatever comes.
"""

from __future__ import annotations

import json
from typing import Any

from vllmd.errors import InvalidRequest
from vllmd.v1.generation_pb2 import StructuredOutputs

_MOST_BYTES = 64 << 10
_MOST_REGEX_BYTES = 16 << 10
_MOST_CHOICES = 1024
_MOST_PROPERTIES, _MOST_IN_ALL = 256, 1024
"""Of an object, and of a schema. xgrammar takes 18 s for an object of 600 and 128,000 tokens, and ever more
for each one more; EngineCore compiles one after the other, whoever waits."""


def structured_outputs(outputs: StructuredOutputs) -> dict[str, Any]:
    """Read the constraint, by vLLM's names.

    Raises:
        InvalidRequest: there is none, it is too large, or what has to be JSON is not.
    """
    kind = outputs.WhichOneof("constraint")
    if kind is None:
        raise _invalid("constraint", "give exactly one of json, json_object, regex, choice, grammar and structural_tag")
    size = outputs.ByteSize()
    most = _MOST_REGEX_BYTES if kind == "regex" else _MOST_BYTES
    if size > most:
        raise _invalid(kind, f"it takes {size} bytes; at most {most} are possible", bytes=size, limit_bytes=most)
    value: Any = getattr(outputs, kind)
    match kind:
        case "json":
            _check_schema(value)
        case "json_object" if not value:
            raise _invalid(kind, "it is true; leave structured_outputs out for any text")
        case "choice":
            value = list(value.texts)
            if not value or not all(value) or len(value) > _MOST_CHOICES:
                raise _invalid("choice.texts", f"1 to {_MOST_CHOICES} texts, none of which is empty")
        case "regex" if not value or "\0" in value:
            raise _invalid(kind, "a regular expression is not empty, and holds no NUL")
        case "grammar" if not value.strip():
            raise _invalid(kind, "a grammar is not empty")
        case "structural_tag":
            _check_properties(kind, _json(kind, value))
    return {kind: value} | ({"disable_any_whitespace": True} if outputs.disable_any_whitespace else {})


def _check_schema(text: str) -> None:
    schema = _json("json", text)
    if not isinstance(schema, dict):
        raise _invalid("json", "a JSON schema is an object")
    _check_properties("json", schema)


def _check_properties(kind: str, schema: Any) -> None:
    """Refuse what takes a compiler minutes."""
    left, total = [schema], 0
    while left:
        value = left.pop()
        if isinstance(value, dict):
            properties = value.get("properties")
            count = len(properties) if isinstance(properties, dict) else 0
            total += count
            if count > _MOST_PROPERTIES or total > _MOST_IN_ALL:
                what, most = (count, _MOST_PROPERTIES) if count > _MOST_PROPERTIES else (total, _MOST_IN_ALL)
                of = "an object" if count > _MOST_PROPERTIES else "a schema"
                raise _invalid(
                    kind, f"{of} has at most {most} properties here; this has {what}", count=what, limit=most
                )
            left += value.values()
        elif isinstance(value, list):
            left += value


def _json(kind: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise _invalid(kind, "it is nested too deep") from None
    except ValueError as error:
        raise _invalid(kind, f"it is no JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not one of its numbers")


def _invalid(kind: str, what: str, **metadata: object) -> InvalidRequest:
    field = f"sampling_params.structured_outputs.{kind}"
    message = f"structured_outputs.{kind}: {what}."
    return InvalidRequest("INVALID_STRUCTURED_OUTPUTS", message, field=field, **metadata).naming((field, what))
