"""LoRA adapters: what a directory has to hold to be one, and what a plan has to know of it.

What vLLM can't do with one that is (another kind of it, or one for another model) it says itself, while it loads.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
from collections.abc import Mapping

from vllmd.errors import InvalidRequest, NotFound
from vllmd.models import plain, readable, safetensors
from vllmd.models.safetensors import Unreadable
from vllmd.tasks import in_thread

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
"""In the order in which vLLM takes them."""

_MAX_CONFIG_BYTES = 1 << 20
_PATIENCE_SECONDS = 10.0
"""What a file system gets to answer: one of the network may hang for ever."""


async def largest_rank(adapters: Mapping[str, str]) -> int:
    """Look at some adapters, their directories by name, and find the largest rank of any; 0 if there are none.

    Raises:
        NotFound: one is not there.
        InvalidRequest: one is no adapter.
        NotPossible: one can't be read.
        Unavailable: the files do not answer.
    """
    if not adapters:
        return 0
    look = functools.partial(_largest_rank, adapters)
    return await in_thread("reading LoRA adapters", look, _PATIENCE_SECONDS)


def _largest_rank(adapters: Mapping[str, str]) -> int:
    return max(rank(name, pathlib.Path(path)) for name, path in adapters.items())


def rank(name: str, directory: pathlib.Path) -> int:
    """Read the rank of an adapter, the largest of its matrices; raises as `largest_rank` does."""
    readable.check(name, (directory, *(directory / one for one in (_CONFIG, *_WEIGHTS))))
    files = _files(name, directory)
    if _CONFIG not in files:
        what = "a model, and no LoRA adapter" if "config.json" in files else "no LoRA adapter"
        raise _not_found(name, f"{directory} holds {what}: there is no {_CONFIG}.", directory)
    weights = next((one for one in _WEIGHTS if one in files), None)
    if weights is None:
        raise _not_found(name, f"{directory} holds no weights: there is no {_WEIGHTS[0]}.", directory)
    try:
        found = _rank(json.loads(plain.read(directory / _CONFIG, _MAX_CONFIG_BYTES)))
        if weights == _WEIGHTS[0]:
            safetensors.bytes_by_dtype([directory / weights], None)
    except (OSError, ValueError, RecursionError, Unreadable) as error:
        message = f"{directory} holds no LoRA adapter that could be used: {error}."
        raise InvalidRequest("INVALID_LORA", message, lora=name, path=directory) from error
    return found


def _rank(config: object) -> int:
    if not isinstance(config, dict):
        raise ValueError(f"{_CONFIG} is no object")
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise ValueError(f"its peft_type is {str(kind)[:50]}, not LORA")
    patterns = config.get("rank_pattern") or {}
    if not isinstance(patterns, dict):
        raise ValueError("its rank_pattern is no object")
    ranks = [config.get("r"), *patterns.values()]
    if not all(type(one) is int and one > 0 for one in ranks):
        raise ValueError("its ranks (r, rank_pattern) are not all whole numbers from 1")
    return max(one for one in ranks if isinstance(one, int))


def _files(name: str, directory: pathlib.Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(directory))
    except (OSError, ValueError) as error:
        raise _not_found(name, f"There is no directory {directory}.", directory) from error


def _not_found(name: str, why: str, directory: pathlib.Path) -> NotFound:
    return NotFound("LORA_NOT_FOUND", f"LoRA adapter {name}: {why}", lora=name, path=directory)
