"""What a model's weights take on each GPU, by how vLLM divides them."""

from __future__ import annotations

from vllmd.models.facts import ModelFacts, dtype_bytes
from vllmd.models.parameters import Parameters
from vllmd.planner.choice import parts

_BELIEVED = 0.2
"""Files may be this much off what was counted; beyond, they hold something else: another dtype, or weights twice."""


def bytes_on_each(facts: ModelFacts, tensor_parallel: int = 1, pipeline_parallel: int = 1) -> int | None:
    """Work out what the fullest GPU holds; `None` if neither the configuration nor the files say.

    Args:
        facts: the model.
        tensor_parallel: among how many GPUs matrices are divided.
        pipeline_parallel: among how many groups of GPUs layers are divided.
    """
    counted = facts.parameters
    whole = None if counted is None else _whole(facts, counted)
    if counted is None or whole is None:
        return None if facts.weight_bytes is None else parts(facts.weight_bytes, tensor_parallel * pipeline_parallel)
    kv_parts = min(tensor_parallel, facts.kv_heads or tensor_parallel)
    linear, key_value, experts = (
        _packed(facts, amount, is_expert) or 0
        for amount, is_expert in ((counted.linear, False), (counted.key_value, False), (counted.experts, True))
    )
    plain = dtype_bytes(facts.dtype)
    layers = linear // tensor_parallel + key_value // kv_parts + experts // tensor_parallel
    layers += plain * (counted.replicated + counted.derived // tensor_parallel)
    ends = plain * max(counted.embedding, counted.head) // tensor_parallel
    if pipeline_parallel == 1:
        ends = plain * (counted.embedding + counted.head) // tensor_parallel
    there = layers // pipeline_parallel + ends + plain * counted.vision // tensor_parallel
    return int(there * _correction(facts, whole))


def _whole(facts: ModelFacts, counted: Parameters) -> int | None:
    """Work out what a checkpoint of it weighs; `None` if it is packed in a way that nobody knows."""
    packed = [_packed(facts, counted.linear + counted.key_value, False), _packed(facts, counted.experts, True)]
    known = [size for size in packed if size is not None]
    if len(known) < len(packed):
        return None
    plain = counted.embedding + counted.head + counted.replicated + counted.vision
    return sum(known) + plain * dtype_bytes(facts.dtype)


def _packed(facts: ModelFacts, weights: int, is_expert: bool) -> int | None:
    """Work out what so many weights of matrices take; `None` if they are packed in a way that nobody knows."""
    packing = facts.quantization
    if packing is None or (packing.experts_only and not is_expert):
        return weights * dtype_bytes(facts.dtype)
    return packing.bytes_of(weights)


def _correction(facts: ModelFacts, whole: int) -> float:
    """Compare with the files, which have what no rule knows: biases, and matrices that were left unpacked."""
    if facts.weight_bytes is None or not whole:
        return 1.0
    ratio = facts.weight_bytes / whole
    return ratio if abs(ratio - 1) <= _BELIEVED else 1.0
