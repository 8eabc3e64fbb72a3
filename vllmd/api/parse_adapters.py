"""From the LoRA adapters that clients send to the daemon's values; what makes no sense is refused here."""

from __future__ import annotations

import re
from collections.abc import Collection

from vllmd.errors import InvalidRequest
from vllmd.v1 import engine_pb2

MOST = 64
"""How many adapters an engine may have."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_PATH = 1024
"""In characters: all of them stay listed with the engine for a while."""


def adapters(given: Collection[engine_pb2.LoraAdapter]) -> dict[str, str]:
    """Read LoRA adapters: their directories by their names, in the order of the names.

    Raises:
        InvalidRequest: `INVALID_LORA`: a name or a path can't be one, two have one name, or there are too many.
    """
    if len(given) > MOST:
        raise _invalid(f"An engine has at most {MOST} LoRA adapters; {len(given)} were asked for.", limit=MOST)
    found: dict[str, str] = {}
    for one in given:
        if not _NAME.fullmatch(one.name):
            message = f"{one.name[:64]!r} is no name of a LoRA adapter: 1 to 64 letters, digits, . _ and -."
            raise _invalid(message, lora=one.name)
        if one.name in found:
            raise _invalid(f"Two LoRA adapters are named {one.name}: each needs a name of its own.", lora=one.name)
        if not one.path.startswith("/") or len(one.path) > _LONGEST_PATH or not one.path.isprintable():
            message = (
                f"The path of LoRA adapter {one.name} is an absolute one of at most {_LONGEST_PATH} printable "
                "characters, of a directory on the host."
            )
            raise _invalid(message, lora=one.name)
        found[one.name] = one.path
    return dict(sorted(found.items()))


def _invalid(message: str, **metadata: object) -> InvalidRequest:
    return InvalidRequest("INVALID_LORA", message, field="lora_adapters", **metadata)
