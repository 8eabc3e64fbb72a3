"""Among how many GPUs a model can be divided."""

from __future__ import annotations

from vllmd.models.facts import ModelFacts
from vllmd.planner.choice import Infeasible

_MOST_GPUS = 64
"""Sizes beyond are not worth naming."""


def sizes(facts: ModelFacts, most: int) -> list[int]:
    """List the numbers of GPUs, up to *most*, among which vLLM can divide a model's attention heads.

    Those of keys and values too, or each of them copied to as many. All numbers for a model without heads.
    """
    heads, kv = facts.attention_heads, facts.kv_heads or facts.attention_heads
    if heads is None or kv is None:
        return list(range(1, most + 1))
    if facts.latent_dim is not None:
        kv = 1  # MLA's vector is for all heads, and on each GPU
    return [n for n in range(1, most + 1) if heads % n == 0 and (kv % n == 0 or n % kv == 0)]


def refusal(wanted: int, facts: ModelFacts | None) -> Infeasible | None:
    """Refuse a `tensor_parallel_size` that the client set and that divides no heads, with those that do."""
    if facts is None or facts.attention_heads is None or facts.attention_heads % wanted == 0:
        return None
    heads = facts.attention_heads
    possible = ", ".join(map(str, (n for n in range(1, min(heads, _MOST_GPUS) + 1) if heads % n == 0)))
    return Infeasible(
        "INVALID_ENGINE_ARG",
        f"tensor_parallel_size={wanted} does not divide the model's {heads} attention heads: it can be {possible}.",
        {"attention_heads": heads, "tensor_parallel_size": wanted},
        forever=True,
        invalid=True,
    )
