"""How long a context an engine serves: what the model can, or what fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.planner.choice import Choice, Infeasible, gib, whole_number
from vllmd.planner.kv_cache import Layout, lay_out
from vllmd.planner.memory import beside
from vllmd.planner.weights import bytes_on_each

SMALLEST = 256
"""A context below this is of no use to anybody, so the plan fails instead."""

DEFAULT_UTILIZATION = 0.9
"""vLLM's usual share of a GPU; what is left is for CUDA contexts and fragmentation."""

_TOKENS = 8192
_SEQUENCES = 1024
"""What is reckoned with where an argument makes no sense, which vLLM will say."""


def longest(
    arguments: Mapping[str, Any], facts: ModelFacts | None, gpus: Sequence[Gpu], share: float, tensor_parallel: int
) -> Choice | Infeasible | None:
    """Choose `max_model_len`; `None` if the client has, and it may well fit.

    Args:
        arguments: what the client set, and what was chosen so far.
        facts: the model.
        gpus: where it is to run.
        share: `gpu_memory_utilization`.
        tensor_parallel: among how many GPUs matrices and heads are divided.
    """
    other = next((name for name in arguments if _changes_sizes(name, arguments[name])), None)
    room = None if facts is None or other is not None else _room(arguments, facts, tensor_parallel)
    if "max_model_len" in arguments:
        wanted = whole_number(arguments["max_model_len"])
        return None if room is None or wanted is None else _refusal(wanted, room, gpus, share)
    if other is not None:
        return Choice("max_model_len", -1, "auto", f"{other} changes what fits: vLLM fits it")
    if facts is None or facts.max_model_len is None or room is None:
        return Choice("max_model_len", -1, "auto", "not known before the weights are read: vLLM fits it")
    pool = room.pool(gpus, share)
    fits = room.layout.longest(pool, facts.max_model_len)
    if fits == facts.max_model_len:
        return Choice("max_model_len", fits, "auto", "the model's own maximum, and it fits")
    if fits < SMALLEST:
        return _too_large(room, gpus, facts.max_model_len)
    reason = f"what the KV cache holds in {gib(pool)} beside {gib(room.weights)} of weights on each GPU"
    return Choice("max_model_len", fits, "auto", f"{reason}; the model's is {facts.max_model_len}")


@dataclasses.dataclass(frozen=True, slots=True)
class _Room:
    """What an engine takes on each GPU."""

    weights: int
    taken: int
    """By weights and all else but the KV cache."""
    layout: Layout

    def pool(self, gpus: Sequence[Gpu], share: float) -> int:
        """Work out what is left for the KV cache."""
        return max(0, min(int(gpu.total_bytes * share) for gpu in gpus) - self.taken)


def _room(arguments: Mapping[str, Any], facts: ModelFacts, tensor_parallel: int) -> _Room | None:
    stages = whole_number(arguments.get("pipeline_parallel_size")) or 1
    tokens = whole_number(arguments.get("max_num_batched_tokens")) or _TOKENS
    sequences = whole_number(arguments.get("max_num_seqs")) or _SEQUENCES
    weights = bytes_on_each(facts, tensor_parallel, stages)
    layout = lay_out(facts, in_flight=tokens, tensor_parallel=tensor_parallel, pipeline_parallel=stages)
    if weights is None or layout is None:
        return None
    return _Room(weights, weights + beside(facts, tokens, sequences, tensor_parallel), layout)


_SURE = 1.1
"""A context so many times as long as what fits is refused at once; on one that is closer vLLM has the last word."""
_NOT_RECKONED_WITH = frozenset({"kv_cache_dtype", "quantization", "kv_cache_memory_bytes", "cpu_offload_gb"})
_OF_16_BITS = ("auto", "half", "float16", "bfloat16", None)


def _changes_sizes(name: str, value: Any) -> bool:
    """Tell whether an argument changes what weights or cache take in a way that is not reckoned with here."""
    return name in _NOT_RECKONED_WITH or (name == "dtype" and value not in _OF_16_BITS)


def _refusal(wanted: int, room: _Room, gpus: Sequence[Gpu], share: float) -> Infeasible | None:
    """Refuse a context of the client's that does not fit, before a minute goes by until vLLM does."""
    pool = room.pool(gpus, share)
    fits = room.layout.longest(pool, wanted)
    if wanted <= fits * _SURE:
        return None
    needed = room.layout.bytes_of(wanted)
    later = (
        room.layout.longest(room.pool(gpus, DEFAULT_UTILIZATION), wanted) * _SURE >= wanted
        and share < DEFAULT_UTILIZATION
    )
    would = f"max_model_len={fits} would fit" if fits >= SMALLEST else "nothing of use would fit"
    return Infeasible(
        "GPU_MEMORY_EXHAUSTED" if later else "KV_CACHE_TOO_SMALL",
        f"max_model_len={wanted} needs {gib(needed)} of KV cache on each GPU, and {gib(pool)} is left beside "
        f"{gib(room.weights)} of weights: {would}, as would more with kv_cache_dtype=fp8 or on more GPUs.",
        {"needed_bytes": needed, "available_bytes": pool, "longest_max_model_len": fits},
        forever=not later,
        invalid=not later,
    )


def _too_large(room: _Room, gpus: Sequence[Gpu], at_most: int) -> Infeasible:
    """Say that nothing of use is left for the KV cache, and whether it ever could be."""
    smallest = min(gpus, key=lambda gpu: gpu.total_bytes)
    never = room.layout.longest(room.pool(gpus, DEFAULT_UTILIZATION), at_most) < min(SMALLEST, at_most)
    return Infeasible(
        "MODEL_TOO_LARGE" if never else "GPU_MEMORY_EXHAUSTED",
        f"The weights take {gib(room.weights)} on each of {len(gpus)} GPU(s), and all else but the KV cache "
        f"{gib(room.taken - room.weights)}. {gib(smallest.free_bytes)} of {gib(smallest.total_bytes)} is free on GPU "
        f"{smallest.index}: no room for a KV cache.",
        {"weight_bytes": room.weights, "total_bytes": smallest.total_bytes},
        forever=never,
    )
