"""How long a context an engine serves: what the model can, or what fits."""

from __future__ import annotations

from collections.abc import Sequence

from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.planner.choice import Draft, Infeasible, gib, whole_number
from vllmd.planner.footprint import Footprint
from vllmd.planner.use_cases import GENERAL, UseCase

MOST = 1 << 40
"""No context is as long."""

FITTING = -1
"""As `max_model_len`: vLLM takes as long a context as fits."""

SMALLEST = 256
"""A context below this is of no use to anybody, so the plan fails instead."""

_KEPT = 0.02
"""Of the room for the KV cache, where what fits is chosen and no load like it was measured: vLLM refuses to start with
less than one request of the longest context takes."""

_UNNAMED = 2048
"""vLLM's default for a model whose configuration names no maximum (`_get_and_verify_max_len`, 0.25)."""


def refusal(draft: Draft, facts: ModelFacts | None) -> Infeasible | None:
    """Refuse a context that was set and is longer than the model's own, which vLLM would as well."""
    wanted, most = whole_number(draft.get("max_model_len")), facts.max_model_len if facts is not None else None
    if wanted is None or most is None or wanted <= most or "hf_overrides" in draft:
        return None
    return Infeasible(
        "INVALID_ENGINE_ARG",
        f"max_model_len={wanted} is longer than the model was made for: it can be up to {most}.",
        {"max_model_len": wanted, "longest_max_model_len": most},
        forever=True,
        invalid=True,
    )


def target(draft: Draft, facts: ModelFacts | None, use_case: UseCase) -> int | None:
    """Say how long a context is wanted; `None` if nothing is known of the model."""
    wanted = whole_number(draft.get("max_model_len"))
    if wanted is not None or facts is None:
        return wanted
    return min(facts.max_model_len or _UNNAMED, use_case.context or MOST, _one_batch(draft) or MOST)


def _one_batch(draft: Draft) -> int | None:
    """Say how long a prompt may be that has to be computed at once; `None` if it need not, or vLLM sees to it."""
    whole = draft.get("enable_chunked_prefill") is False
    return whole_number(draft.get("max_num_batched_tokens")) if whole else None


def settle(
    draft: Draft,
    facts: ModelFacts | None,
    footprint: Footprint | None,
    pool: int,
    gpus: Sequence[Gpu],
    use_case: UseCase,
) -> Infeasible | None:
    """Choose `max_model_len`, or refuse one that was set and does not fit.

    Args:
        draft: what is settled so far.
        facts: the model.
        footprint: what the engine takes; `None` if that is not known.
        pool: bytes for the KV cache on each GPU.
        gpus: where it is to run.
        use_case: what for.
    """
    longest = target(draft, facts, use_case)
    if "max_model_len" in draft and draft.get("max_model_len") != FITTING:
        if footprint is None or longest is None:
            return None
        return _refuse(longest, draft, footprint, pool, gpus)
    if footprint is None or longest is None:
        if use_case.context is not None and longest is not None:
            draft.choose("max_model_len", longest, "use case", f"as the use case {use_case.name} has it")
        draft.choose(
            "max_model_len", FITTING, "auto", "what fits is not known before the weights are read: vLLM fits it"
        )
        return None
    fits = _surely(draft, footprint, pool, longest)
    if fits < min(SMALLEST, longest):
        return too_large(draft, footprint, gpus, longest)
    if fits < longest:
        reason = f"what the KV cache holds in {gib(pool)} beside {gib(footprint.weights)} of weights on each GPU"
        draft.choose("max_model_len", fits, "hardware", f"{reason}; the model's is {facts and facts.max_model_len}")
    elif facts is not None and longest == facts.max_model_len:
        draft.choose("max_model_len", fits, "model", "the model's own maximum, and it fits")
    elif longest == use_case.context:
        reason = f"as the use case {use_case.name} has it; the model's is {facts and facts.max_model_len}"
        draft.choose("max_model_len", fits, "use case", reason)
    elif longest == _one_batch(draft):
        reason = "without chunked prefill a prompt has to go into one batch of max_num_batched_tokens"
        draft.choose("max_model_len", fits, "auto", reason)
    else:
        draft.choose("max_model_len", fits, "model", "vLLM's default for a model that names no maximum")
    return None


def _surely(draft: Draft, footprint: Footprint, pool: int, at_most: int) -> int:
    """Say how long a context fits, with something kept where the room is worked out and not known."""
    kept = 0.0 if footprint.is_measured or _is_cache_set(draft) else _KEPT
    return footprint.layout.longest(int(pool * (1 - kept)), at_most)


def _refuse(wanted: int, draft: Draft, footprint: Footprint, pool: int, gpus: Sequence[Gpu]) -> Infeasible | None:
    """Refuse a context that does not fit, before a minute goes by until vLLM does."""
    if wanted <= footprint.layout.longest(pool, wanted):
        return None
    fits = _surely(draft, footprint, pool, wanted)
    needed = footprint.layout.bytes_of(wanted)
    later = footprint.layout.longest(_ever(draft, footprint, gpus), wanted) >= wanted
    would = f"max_model_len={fits} would fit" if fits >= SMALLEST else "no context of use would fit"
    return Infeasible(
        "GPU_MEMORY_EXHAUSTED" if later else "KV_CACHE_TOO_SMALL",
        f"max_model_len={wanted} needs {gib(needed)} of KV cache on each GPU, and {gib(pool)} is left beside "
        f"{gib(footprint.weights)} of weights: {would}.",
        {
            "max_model_len": wanted,
            "weight_bytes": footprint.weights,
            "needed_bytes": needed,
            "available_bytes": pool,
            "missing_bytes": needed - pool,
            "longest_max_model_len": fits,
        },
        forever=not later,
        invalid=not later,
    )


def too_large(draft: Draft, footprint: Footprint, gpus: Sequence[Gpu], at_most: int) -> Infeasible:
    """Say that nothing of use is left for the KV cache, and whether it ever could be."""
    smallest = min(gpus, key=lambda gpu: gpu.total_bytes)
    least = min(SMALLEST, at_most)
    never = footprint.layout.longest(_ever(draft, footprint, gpus), at_most) < least
    cache = footprint.layout.bytes_of(least) + footprint.layout.block_bytes
    where, beyond = f"GPU {smallest.index}", footprint.graphs_beyond
    asked: dict[str, int | str] = {}
    there = smallest.usable_bytes if never else smallest.free_bytes
    missing = footprint.taken + cache + beyond - there
    has = (
        f"{where} has {gib(there)} beside what the driver keeps"
        if never
        else f"{gib(there)} of {gib(smallest.total_bytes)} on {where} is free"
    )
    if missing <= 0:  # it is the share that is too small, and what comes on top is outside of it
        share = _largest_share(draft) if never else float(draft.get("gpu_memory_utilization", GENERAL.share))
        there, beyond = int(smallest.usable_bytes * share), 0
        missing = max(0, footprint.taken + cache - there)
        asked = {"gpu_memory_utilization": f"{share:g}"}
        has = f"gpu_memory_utilization={share:g} of {where} is {gib(there)}"
    rest = footprint.taken - footprint.weights + beyond
    less = " Fewer requests and tokens at once, by max_num_seqs and max_num_batched_tokens, take less."
    return Infeasible(
        "MODEL_TOO_LARGE" if never else "GPU_MEMORY_EXHAUSTED",
        f"The weights take {gib(footprint.weights)} on {'the GPU' if len(gpus) == 1 else f'each of {len(gpus)} GPUs'}, "
        f"and all else but the KV cache {gib(rest)}. {has}: {gib(missing)} is missing there for a KV cache of "
        f"{least} tokens.{less if rest > footprint.weights else ''}",
        {
            "gpu": smallest.index,
            "gpus": len(gpus),
            "weight_bytes": footprint.weights,
            "other_bytes": rest,
            "available_bytes": there,
            "total_bytes": smallest.total_bytes,
            "missing_bytes": missing,
            "least": least,
        }
        | asked,
        forever=never,
    )


def never(draft: Draft, footprint: Footprint | None, gpus: Sequence[Gpu], at_most: int | None) -> Infeasible | None:
    """Say that a model is too large for some GPUs whoever leaves them; `None` if it is not, or not known to be."""
    if footprint is None or at_most is None:
        return None
    if footprint.layout.longest(_ever(draft, footprint, gpus), at_most) >= min(SMALLEST, at_most):
        return None
    return too_large(draft, footprint, gpus, at_most)


def _ever(draft: Draft, footprint: Footprint, gpus: Sequence[Gpu]) -> int:
    """Work out what would be left for the KV cache if nobody else was on the GPUs."""
    blocks, own = draft.count("num_gpu_blocks_override"), draft.count("kv_cache_memory_bytes")
    if blocks is not None:
        return blocks * footprint.layout.block_bytes
    if own is not None:
        return own
    share = _largest_share(draft)
    on_top = 0 if _is_share_set(draft) else footprint.graphs_beyond
    return footprint.pool(min(min(int(gpu.usable_bytes * share), gpu.usable_bytes - on_top) for gpu in gpus))


def _largest_share(draft: Draft) -> float:
    """Say what share there would be if nobody else was on the GPUs."""
    chosen = float(draft.get("gpu_memory_utilization", GENERAL.share))
    return chosen if _is_share_set(draft) else max(chosen, GENERAL.share)


def _is_cache_set(draft: Draft) -> bool:
    return any(draft.count(name) is not None for name in ("kv_cache_memory_bytes", "num_gpu_blocks_override"))


def _is_share_set(draft: Draft) -> bool:
    return draft.source("gpu_memory_utilization") in ("client", "host")
