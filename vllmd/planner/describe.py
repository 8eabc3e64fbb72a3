"""A plan, or why there is none, as plain values for JSON. Unknown is `None`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.planner.choice import Choice, Infeasible
from vllmd.planner.memory import GpuMemory
from vllmd.planner.planning import Plan

_PARTS = ("weights", "kv_cache", "activation", "graphs", "other")


def document(
    found: Plan | Infeasible,
    *,
    model: str,
    facts: ModelFacts | None = None,
    use_case: str | None = None,
    gpus: Sequence[Gpu] = (),
    hardware: str = "",
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Put all of it into one object; the names at its top level are for programs to rely on.

    Args:
        found: what came of it.
        model: as it was named.
        facts: what is known of it.
        use_case: what it was planned for.
        gpus: those that were to choose from.
        hardware: the same in a phrase.
        notes: what is to be known of the plan beside its choices.
    """
    return {
        "feasible": isinstance(found, Plan),
        "reasons": reasons(found, notes),
        **_figures(found),
        "use_case": use_case or None,
        "hardware": hardware,
        "model": {"name": model, **_model(facts)},
        "gpus": _gpus(found, gpus),
        "choices": [dataclasses.asdict(choice) for choice in found.choices] if isinstance(found, Plan) else [],
        "notes": list(notes),
        **({} if isinstance(found, Plan) else _infeasible(found)),
    }


def reasons(found: Plan | Infeasible, notes: Sequence[str] = ()) -> list[str]:
    """Say why the plan is as it is, a text for each choice; or why there is none, and what would help."""
    if isinstance(found, Plan):
        return [*map(_reason, found.choices), *notes]
    return [found.message, *(f"would make it fit: {remedy.text}" for remedy in found.remedies), *notes]


def _reason(choice: Choice) -> str:
    return f"{choice.name}={choice.value}: {choice.reason}"


def _figures(found: Plan | Infeasible) -> dict[str, Any]:
    """Name what programs ask for most; of what does not fit, what is known of it."""
    if isinstance(found, Infeasible):
        return {
            "engine_args": {},
            "weights_bytes_per_gpu": found.numbers.get("weight_bytes"),
            "kv_cache_bytes_per_gpu": None,
            "kv_cache_bytes_per_token": None,
            "kv_cache_tokens": None,
            "max_concurrency": None,
        }
    memory, cache = found.memory, found.cache
    return {
        "engine_args": found.engine_args,
        "weights_bytes_per_gpu": memory and memory.weights,
        "kv_cache_bytes_per_gpu": memory and memory.kv_cache,
        "kv_cache_bytes_per_token": cache and cache.bytes_per_token,
        # An encoder keeps nothing, so no cache limits it.
        "kv_cache_tokens": (cache and cache.tokens) or None,
        "max_concurrency": (cache and cache.max_concurrency) or None,
    }


def _model(facts: ModelFacts | None) -> dict[str, Any]:
    """Give the facts that are worth seeing; the same names, whatever is known."""
    known = facts or ModelFacts()
    return {
        "architecture": known.architecture,
        "parameters": known.parameters and known.parameters.total,
        "weight_bytes": known.weight_bytes,
        "weights_note": known.weights_note or None,
        "max_model_len": known.max_model_len,
        "dtype": known.dtype,
        "quantization": known.quantization and known.quantization.method,
    }


def _gpus(found: Plan | Infeasible, gpus: Sequence[Gpu]) -> list[dict[str, Any]]:
    """List the GPUs that the engine is to run on; all that there are, where it can't."""
    taken, memory = (found.gpus, found.memory) if isinstance(found, Plan) else (gpus, None)
    return [
        {
            "index": gpu.index,
            "product": gpu.product,
            "uuid": gpu.uuid,
            "mig_parent": gpu.mig_parent,
            "memory": _memory(gpu, memory),
        }
        for gpu in taken
    ]


def _memory(gpu: Gpu, planned: GpuMemory | None) -> dict[str, int | None]:
    """Say what is on one GPU once the engine runs; what others hold is each GPU's own."""
    held = gpu.total_bytes - gpu.free_bytes
    taken: dict[str, int | None] = {name: getattr(planned, name, None) for name in _PARTS}
    free = gpu.free_bytes - sum(size or 0 for size in taken.values())
    return {"total": gpu.total_bytes, **taken, "held": held, "free": free}


def _infeasible(found: Infeasible) -> dict[str, Any]:
    return {
        "reason": found.reason,
        "message": found.message,
        "numbers": dict(found.numbers),
        "remedies": [
            {"text": one.text, "engine_args": dict(one.engine_args), "engines": list(one.engines)}
            for one in found.remedies
        ],
    }
