"""What keeps a model from being divided among so many GPUs, as vLLM does it with each of its matrices.

Heads, the columns of an MLP and the vocabulary have to come out even, and what is packed in groups or blocks must not
be cut within one: vLLM ends at its start otherwise. Read in 0.25.1: `QKVParallelLinear`, `MergedColumnParallelLinear`,
`VocabParallelEmbedding`, `validate_fp8_block_shape`, `check_marlin_supports_layer` and `AutoAWQLinearMethod`.
"""

from __future__ import annotations

from collections.abc import Iterator

from vllmd.models.facts import ModelFacts
from vllmd.planner.choice import parts

BLOCK_OF_FP8 = 128
"""Along which weights of a checkpoint in blocks of FP8 share a scale."""

_VOCABULARY_STEP = 64
"""vLLM fills the vocabulary up to a multiple of this, and then divides it."""

_IN_GROUPS = frozenset({"awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "gptq_marlin", "compressed-tensors"})


def obstacle(facts: ModelFacts, gpus: int) -> str | None:
    """Say in a phrase what can't be divided among so many GPUs; `None` if nothing is in the way."""
    return None if gpus == 1 else next(_obstacles(facts, gpus), None)


def _obstacles(facts: ModelFacts, gpus: int) -> Iterator[str]:
    heads, kv = facts.attention_heads, facts.kv_heads or facts.attention_heads
    if facts.latent_dim is not None:
        kv = 1  # MLA's vector is for all heads, and on each GPU
    if heads is not None and heads % gpus:
        yield f"does not divide the model's {heads} attention heads"
    if heads is not None and kv is not None and kv % gpus and gpus % kv:
        yield f"neither divides the model's {kv} heads of keys and values nor is a multiple of them"
    whole = parts(facts.vocabulary or 0, _VOCABULARY_STEP) * _VOCABULARY_STEP
    if whole % gpus:
        yield f"does not divide the vocabulary, which vLLM makes {whole}"
    inner = facts.hidden_size if heads is None else facts.intermediate_size
    if facts.experts:
        inner = None  # theirs can be divided whole
    if inner is not None and inner % gpus:
        yield f"does not divide the {inner} columns of the model's layers"
    unit, what = _unit(facts)
    if unit is None or heads is None or facts.latent_dim is not None:
        return
    if inner is not None and (inner // gpus) % unit:
        yield f"leaves {inner // gpus} of {inner} columns on each GPU, which are no whole {what} of {unit}"
    if facts.head_dim is not None and (heads // gpus * facts.head_dim) % unit:
        yield f"leaves {heads // gpus} attention heads of {facts.head_dim} on each GPU, no whole {what} of {unit}"
    if facts.head_dim is not None and what == "blocks" and (max(1, (kv or 1) // gpus) * facts.head_dim) % unit:
        yield f"leaves {max(1, (kv or 1) // gpus)} heads of keys and values of {facts.head_dim}, no whole blocks"


def _unit(facts: ModelFacts) -> tuple[int | None, str]:
    """Tell how many inputs of a matrix share a scale, and must stay together."""
    packing = facts.quantization
    if packing is None or packing.experts_only:
        return None, ""
    if packing.method == "fp8" and packing.blocks:
        return BLOCK_OF_FP8, "blocks"
    return (packing.group, "groups") if packing.method in _IN_GROUPS and packing.group else (None, "")
