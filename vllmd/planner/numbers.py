"""Which values a plan can calculate with: a number in words, or one that can't be, is refused instead of guessed at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vllmd.planner.choice import PARALLEL_SIZES, Draft, Infeasible, whole_number

_SIZES = ("max_num_batched_tokens", "max_num_seqs", "kv_cache_memory_bytes", "num_gpu_blocks_override")
"""Open if they are `None`."""
_SWITCHES = (
    "disable_custom_all_reduce", "enable_chunked_prefill", "enable_expert_parallel", "enable_lora",
    "enable_prefix_caching", "enforce_eager",
)  # fmt: skip
"""Likewise; vLLM takes a text such as `false` for true in some places, and for false in others."""


_IN_BYTES = "a whole number of bytes from 1"
_MOST_OFFLOADED = 1 << 20


def refusal(draft: Draft) -> Infeasible | None:
    """Refuse what was set and is no such number as the argument takes."""
    found = odd(draft.engine_args)
    if found is None:
        return None
    name, rule = found
    where = ", as this host's configuration sets it" if draft.source(name) == "host" else ""
    message = f"Engine argument {name} must be {rule}, not {draft.engine_args[name]!r}{where}."
    reason = "INVALID_ENGINE_ARG" if draft.source(name) == "client" else "INVALID_HOST_ARG"
    value = {"argument": name, "value": repr(draft.engine_args[name])}
    return Infeasible(reason, message, value, forever=True, invalid=draft.source(name) == "client")


def odd(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """Find an argument whose value is none that it takes; returns its name, and what it does take in a phrase."""
    for name in PARALLEL_SIZES:
        if name in values and whole_number(values[name]) is None:
            return name, "a whole number from 1"
    for name in _SIZES:
        if values.get(name) is not None and whole_number(values[name]) is None:
            return name, _IN_BYTES if name == "kv_cache_memory_bytes" else "a whole number from 1"
    length = values.get("max_model_len")
    if length is not None and whole_number(length) is None and not (type(length) is int and length == -1):
        return "max_model_len", "a whole number from 1, or -1 for what fits"
    name = "gpu_memory_utilization"
    if name in values and not (_is_number(values[name]) and 0 < values[name] <= 1):
        return name, "a number over 0, at most 1"
    offloaded = values.get("cpu_offload_gb")
    if offloaded is not None and not (_is_number(offloaded) and 0 <= offloaded < _MOST_OFFLOADED):
        return "cpu_offload_gb", "a number of GiB from 0"
    for name in _SWITCHES:
        if values.get(name) is not None and not isinstance(values[name], bool):
            return name, "true or false"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
