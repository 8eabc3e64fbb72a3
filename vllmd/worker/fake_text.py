"""What a fake engine says: words that count, or the simplest text that fits what a client wants it to be like."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .backend import InvalidRequest

VOCABULARY = 1000
_PIECE = 4
"""Characters of a token of structured text."""
_MOST_DEPTH = 32


def pieces(sampling_params: Mapping[str, Any], completion: int, word: str = "w") -> Iterator[tuple[str, int]]:
    """Yield the tokens of a completion, each as text and id: an endless count, another one for each completion.

    Raises:
        InvalidRequest: it can't be told what the text has to be like.
    """
    text = _structured(sampling_params.get("structured_outputs") or {})
    if text is None:
        return ((f"{word}{number} ", number % VOCABULARY) for number in itertools.count(100 * completion))
    cut = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return ((piece, sum(piece.encode()) % VOCABULARY) for piece in cut)


def _structured(outputs: Mapping[str, Any]) -> str | None:
    """Make up a text; `None` where none is asked for, or where it would take a real grammar."""
    try:
        if "json" in outputs:
            return json.dumps(_example(json.loads(outputs["json"]), _MOST_DEPTH))
        if "regex" in outputs:
            re.compile(outputs["regex"])
    except (ValueError, TypeError, re.error) as error:
        raise InvalidRequest(f"structured_outputs: {error}", "INVALID_STRUCTURED_OUTPUTS") from None
    if "choice" in outputs:
        choice: str = outputs["choice"][0]
        return choice
    return "{}" if "json_object" in outputs else None


def _example(schema: Any, depth: int) -> Any:
    """Make a value that fits a JSON schema, as far as it is a plain one."""
    if not depth:
        raise ValueError("the schema is nested too deep")
    if not isinstance(schema, dict):
        return {}
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties: dict[str, Any] = schema.get("properties", {})
            names = schema.get("required", list(properties))
            return {name: _example(properties.get(name), depth - 1) for name in names}
        case "array":
            return [_example(schema.get("items"), depth - 1) for _ in range(int(schema.get("minItems", 1)))]
        case "string":
            return "w" * int(schema.get("minLength", 1))
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case "null":
            return None
        case None:
            return {}
        case unknown:
            raise ValueError(f"the schema has an unknown type: {unknown}")
