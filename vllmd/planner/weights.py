"""What a model's weights take on each GPU, by how vLLM divides them."""

from __future__ import annotations

from vllmd.models.facts import ModelFacts, dtype_bytes
from vllmd.models.parameters import Parameters
from vllmd.models.quantization import Quantization
from vllmd.planner.choice import parts

_BELIEVED = 0.2
"""Files may be this much off what was counted; beyond, they hold something else: another dtype, or weights twice."""


def bytes_on_each(
    facts: ModelFacts,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    *,
    data_parallel: int = 1,
    plain_bytes: int | None = None,
    online: bool = False,
) -> int | None:
    """Work out what the fullest GPU holds; `None` if neither the configuration nor the files say.

    Args:
        facts: the model, as it is once it is loaded.
        tensor_parallel: among how many GPUs matrices are divided.
        pipeline_parallel: among how many groups of GPUs layers are divided.
        data_parallel: among how many replicas experts are divided as well; all else each of them has.
        plain_bytes: of a weight that is not packed; `None` as the model's dtype says.
        online: whether it is packed while it is loaded, and so not in the files.
    """
    counted = facts.parameters
    plain = plain_bytes or dtype_bytes(facts.dtype)
    packed = None if counted is None else _layers(facts, counted, tensor_parallel, data_parallel, plain)
    if counted is None or packed is None:
        if facts.weight_bytes is None:
            return None
        widened = facts.weight_bytes * plain // dtype_bytes(facts.dtype)
        return parts(widened, tensor_parallel * pipeline_parallel)
    layers = packed + plain * (counted.replicated + counted.derived // tensor_parallel)
    ends = plain * max(counted.embedding, counted.head) // tensor_parallel
    if pipeline_parallel == 1:
        ends = plain * (counted.embedding + counted.head) // tensor_parallel
    there = parts(layers, pipeline_parallel) + ends + plain * counted.vision // tensor_parallel
    loaded = int(there * _correction(facts, counted, None if online else facts.quantization))
    return loaded + plain * counted.rotary


def adapter_bytes(facts: ModelFacts, rank: int, slots: int, tensor_parallel: int = 1) -> int:
    """Work out what the slots for LoRA adapters take on each GPU, which vLLM allocates when it loads the model.

    For each matrix of a layer one from its inputs to the rank and one from there to its outputs. Only what is divided
    of the matrix itself is divided.

    Args:
        facts: the model.
        rank: `max_lora_rank`.
        slots: `max_loras`.
        tensor_parallel: among how many GPUs matrices are divided.
    """
    hidden, heads = facts.hidden_size or 0, facts.attention_heads or 0
    head, kv = facts.head_dim or 0, facts.kv_heads or heads
    inner = facts.intermediate_size or 0
    if facts.experts:
        mlp = facts.experts * 3 * (hidden + (facts.expert_intermediate_size or inner) // tensor_parallel)
    else:
        mlp = 3 * (hidden + inner // tensor_parallel)
    layer = 4 * hidden + 2 * (heads + kv) * head // tensor_parallel + mlp
    ends = 2 * (hidden + (facts.vocabulary or 0))  # of the embedding and of the output layer, neither of them divided
    return slots * rank * ((facts.layers or 0) * layer + ends) * dtype_bytes(facts.dtype)


def bytes_outside_layers(facts: ModelFacts, tensor_parallel: int = 1) -> int:
    """Work out what embedding and output layer take on each GPU, which vLLM offloads to no CPU."""
    counted = facts.parameters
    outside = 0 if counted is None else counted.embedding + counted.head
    return outside * dtype_bytes(facts.dtype) // tensor_parallel


def _layers(facts: ModelFacts, counted: Parameters, tensor_parallel: int, data_parallel: int, plain: int) -> int | None:
    """Work out what matrices take on one GPU; `None` if they are packed in a way that nobody knows."""
    kv_parts = min(tensor_parallel, facts.kv_heads or tensor_parallel)
    amounts = (
        (counted.linear, False, tensor_parallel),
        (counted.key_value, False, kv_parts),
        (counted.experts, True, tensor_parallel * data_parallel),
    )
    total = 0
    for amount, is_expert, divided in amounts:
        packing = _packing_of(facts.quantization, is_expert)
        size = amount * plain if packing is None else packing.loaded_bytes_of(amount)
        if size is None:
            return None
        total += size // divided
    return total


def _packing_of(packing: Quantization | None, is_expert: bool) -> Quantization | None:
    return None if packing is not None and packing.experts_only and not is_expert else packing


def _correction(facts: ModelFacts, counted: Parameters, stored: Quantization | None) -> float:
    """Compare with the files, which have what no rule knows: biases, and matrices that were left unpacked."""
    plain = dtype_bytes(facts.dtype)
    whole = 0
    for amount, is_expert in ((counted.linear + counted.key_value, False), (counted.experts, True)):
        packing = _packing_of(stored, is_expert)
        size = amount * plain if packing is None else packing.bytes_of(amount)
        if size is None:
            return 1.0
        whole += size
    rest = counted.embedding + counted.head + counted.replicated + counted.vision
    whole += rest * plain
    ratio = facts.weight_bytes / whole if facts.weight_bytes and whole else 1.0
    return ratio if abs(ratio - 1) <= _BELIEVED else 1.0
