"""Which engine arguments are the host's secrets, such as `hf_token`: whoever shows any hides them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SECRET = re.compile(r"token|secret|passw|api_?key|credential|auth", re.IGNORECASE)
_NO_COUNTS = re.compile(r"tokens|tokenizer", re.IGNORECASE)
HIDDEN = "(hidden)"


def visible(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Hide the secrets among engine arguments, such as `hf_token`."""
    return {name: HIDDEN if is_secret(name) else _inside(value) for name, value in arguments.items()}


def is_secret(name: str) -> bool:
    """Tell whether what is called so is nobody's business."""
    return _SECRET.search(_NO_COUNTS.sub("", name)) is not None


def _inside(value: Any) -> Any:
    match value:
        case dict():
            return visible(value)
        case list() | tuple():
            return [_inside(one) for one in value]
        case _:
            return value
