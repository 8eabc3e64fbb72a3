"""How long a context an engine serves: what the model can, or what fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.planner.choice import Choice, Infeasible, gib, whole_number
from vllmd.planner.kv_cache import lay_out
from vllmd.planner.memory import beside
from vllmd.planner.weights import bytes_on_each

SMALLEST = 256
"""A context below this is of no use to anybody, so the plan fails instead."""

_TOKENS = 8192
_SEQUENCES = 1024
"""What is reckoned with where an argument makes no sense, which vLLM will say."""


def longest(
    arguments: Mapping[str, Any], facts: ModelFacts | None, gpus: Sequence[Gpu], share: float, tensor_parallel: int
) -> Choice | Infeasible | None:
    """Choose `max_model_len`; `None` if the client has.

    Args:
        arguments: what the client set, and what was chosen so far.
        facts: the model.
        gpus: where it is to run.
        share: `gpu_memory_utilization`.
        tensor_parallel: among how many GPUs matrices and heads are divided.
    """
    if "max_model_len" in arguments:
        return None
    if facts is None or facts.max_model_len is None:
        return _left_to_vllm()
    stages = whole_number(arguments.get("pipeline_parallel_size")) or 1
    tokens = whole_number(arguments.get("max_num_batched_tokens")) or _TOKENS
    sequences = whole_number(arguments.get("max_num_seqs")) or _SEQUENCES
    weights = bytes_on_each(facts, tensor_parallel, stages)
    layout = lay_out(facts, in_flight=tokens, tensor_parallel=tensor_parallel, pipeline_parallel=stages)
    if weights is None or layout is None:
        return _left_to_vllm()
    taken = weights + beside(facts, tokens, sequences, tensor_parallel)
    pool = max(0, min(int(gpu.total_bytes * share) for gpu in gpus) - taken)
    fits = layout.longest(pool, facts.max_model_len)
    if fits == facts.max_model_len:
        return Choice("max_model_len", fits, "auto", "the model's own maximum, and it fits")
    if fits < SMALLEST:
        return _too_large(weights, gpus)
    reason = f"what the KV cache holds in {gib(pool)} beside {gib(weights)} of weights on each GPU"
    return Choice("max_model_len", fits, "auto", f"{reason}; the model's is {facts.max_model_len}")


def _left_to_vllm() -> Choice:
    return Choice("max_model_len", -1, "auto", "not known before the weights are read: vLLM fits it")


def _too_large(weights: int, gpus: Sequence[Gpu]) -> Infeasible:
    smallest = min(gpus, key=lambda gpu: gpu.total_bytes)
    return Infeasible(
        "MODEL_TOO_LARGE" if weights > smallest.total_bytes else "GPU_MEMORY_EXHAUSTED",
        f"The weights take {gib(weights)} on each of {len(gpus)} GPU(s), and {gib(smallest.free_bytes)} of "
        f"{gib(smallest.total_bytes)} is free on GPU {smallest.index}: no room for a KV cache.",
        {"weight_bytes": weights, "total_bytes": smallest.total_bytes},
        forever=weights > smallest.total_bytes,
    )
