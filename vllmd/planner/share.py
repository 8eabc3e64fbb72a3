"""How much of each GPU an engine may use: `gpu_memory_utilization`.

vLLM refuses to start where less is free than this share of the whole GPU, whoever holds the rest, and keeps within it
but for CUDA graphs and the like, which come on top. So a share is never more than what is free less these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vllmd.gpu.inventory import Gpu, GpuProcess
from vllmd.planner.choice import Draft, Infeasible, gib
from vllmd.planner.footprint import Footprint

MARGIN_BYTES = 512 << 20
"""Kept free beyond the share: between this plan and vLLM's own check other processes may take some."""

SMALLEST = 0.05
"""Less than this is of no use to any engine."""

_STEPS = 1000
_NAMED_HOLDERS = 4


def settle(
    draft: Draft, gpus: Sequence[Gpu], usual: float, beyond: int, named: str, why: str = ""
) -> Infeasible | None:
    """Choose the share, or refuse one that was set and is not free.

    Args:
        draft: what is settled so far.
        gpus: where the engine is to run.
        usual: the share to take where nothing is in the way.
        beyond: bytes that come on top of the share on each GPU.
        named: the use case that it is usual for; empty for none.
        why: the reason for it, where it is usual for nothing in particular and not the one that always is.
    """
    tightest = min(gpus, key=lambda gpu: _possible(gpu, beyond))
    possible = _possible(tightest, beyond)
    wanted = draft.get("gpu_memory_utilization")
    if wanted is not None:
        refused = (_refusal(float(wanted), gpu, possible, beyond) for gpu in gpus)
        return next((one for one in refused if one is not None), None)
    if possible < SMALLEST:
        return _full(tightest, beyond)
    if possible >= usual:
        reason = f"what the use case {named} takes" if named else why or "the usual share"
        draft.choose("gpu_memory_utilization", usual, "use case" if named else "auto", f"{reason}; that much is free")
        return None
    size, whole = gib(tightest.free_bytes), gib(tightest.total_bytes)
    reason = f"GPU {tightest.index} has {size} of {whole} free, and {gib(beyond)} comes on top for CUDA graphs"
    draft.choose("gpu_memory_utilization", possible, "hardware", reason)
    return None


def of(size: int, gpus: Sequence[Gpu]) -> float:
    """Say which share of the smallest GPU so many bytes are, rounded up; no more than all of it."""
    smallest = min(gpu.usable_bytes for gpu in gpus)
    return min(1.0, math.ceil(size / max(1, smallest) * _STEPS) / _STEPS)


def refusal(draft: Draft, footprint: Footprint, gpus: Sequence[Gpu]) -> Infeasible | None:
    """Refuse a KV cache whose size was set and that does not fit, which vLLM would allocate unchecked.

    Args:
        draft: what is settled so far, with `kv_cache_memory_bytes` or `num_gpu_blocks_override`, which overrides it.
        footprint: what the engine takes.
        gpus: where the engine is to run.
    """
    name, unit = "num_gpu_blocks_override", footprint.layout.block_bytes
    if draft.count(name) is None:
        name, unit = "kv_cache_memory_bytes", 1
    wanted, beside = draft.count(name) or 0, footprint.taken + footprint.graphs_beyond
    own = wanted * unit
    tightest = min(gpus, key=lambda gpu: gpu.free_bytes)
    left = max(0, tightest.free_bytes - beside)
    if own <= left:
        return None
    smallest = min(gpu.usable_bytes for gpu in gpus)
    never, hopeless = own > smallest - beside, beside >= smallest
    reason = "MODEL_TOO_LARGE" if hopeless else "INVALID_ENGINE_ARG" if never else "GPU_MEMORY_EXHAUSTED"
    would = f"{name}={left // unit} would fit" if left >= unit else "none would fit"
    return Infeasible(
        reason,
        f"{name}={wanted} is {gib(own)} on each GPU, and all else of the engine takes {gib(beside)}. "
        f"{gib(tightest.free_bytes)} of GPU {tightest.index} is free{holders(tightest)}: {would}.",
        {
            **_on(tightest),
            "argument": name,
            "value": wanted,
            "cache_bytes": own,
            "other_bytes": beside,
            "needed_bytes": own + beside,
            "missing_bytes": own - left,
            "limit": left // unit,
        },
        forever=never,
        invalid=never and not hopeless,
    )


def _possible(gpu: Gpu, beyond: int) -> float:
    if gpu.usable_bytes <= 0:
        return 0.0
    return math.floor((gpu.free_bytes - beyond - MARGIN_BYTES) / gpu.usable_bytes * _STEPS) / _STEPS


def _refusal(wanted: float, gpu: Gpu, possible: float, beyond: int) -> Infeasible | None:
    """Refuse a share that is not free, or beside which not even half of what is reckoned to come on top would fit."""
    needed = math.ceil(wanted * gpu.usable_bytes)
    if needed + beyond // 2 <= gpu.free_bytes:
        return None
    would = f"{possible:.3g} would work now" if possible >= SMALLEST else "nothing of use would work now"
    missing = needed - gpu.free_bytes
    on_top = f", of which CUDA graphs and buffers take {gib(beyond)} on top" if missing <= 0 else ""
    return Infeasible(
        "GPU_MEMORY_EXHAUSTED",
        f"gpu_memory_utilization={wanted} asks for {gib(needed)} of GPU {gpu.index}, and {gib(gpu.free_bytes)} is "
        f"free{holders(gpu)}{on_top}. {would}.".replace(". n", ". N"),
        {
            **_on(gpu),
            "gpu_memory_utilization": str(wanted),
            "needed_bytes": needed,
            "other_bytes": beyond,
            "missing_bytes": max(0, missing),
            "limit": f"{possible:.3g}",
        },
        forever=False,
    )


def _full(gpu: Gpu, beyond: int) -> Infeasible:
    numbers = _on(gpu)
    missing = beyond + MARGIN_BYTES + int(SMALLEST * gpu.usable_bytes) - gpu.usable_bytes
    if beyond > 0 and missing > 0 and gpu.usable_bytes > 0:  # without any, the driver tells nothing sensible
        return Infeasible(
            "MODEL_TOO_LARGE",
            f"CUDA graphs and the sampler take {gib(beyond)}, and GPU {gpu.index} has {gib(gpu.total_bytes)} in all. "
            "Fewer requests at once, as by max_num_seqs, take less, and no graphs, by enforce_eager, as well.",
            numbers | {"other_bytes": beyond, "missing_bytes": missing},
            forever=True,
        )
    return Infeasible(
        "GPU_MEMORY_EXHAUSTED",
        f"GPU {gpu.index} has {gib(gpu.free_bytes)} of {gib(gpu.total_bytes)} free{holders(gpu)}. "
        "Stop an engine, or end what else is on it.",
        numbers,
        forever=False,
    )


def _on(gpu: Gpu) -> dict[str, int | str]:
    """Say of a GPU what programs may want to know where it has too little free."""
    held = {"holders": holders(gpu).strip(" ()")} if gpu.processes else {}
    return {"gpu": gpu.index, "free_bytes": gpu.free_bytes, "total_bytes": gpu.total_bytes, **held}


def holders(gpu: Gpu) -> str:
    """Name the processes that hold most of a GPU's memory, in words that go on a sentence."""
    known = sorted(gpu.processes, key=lambda process: -(process.used_bytes or 0))[:_NAMED_HOLDERS]
    return f" (held by {', '.join(map(_holder, known))})" if known else ""


def _holder(process: GpuProcess) -> str:
    """Name one; inside a container the driver does not say how much it holds."""
    who = f"engine {process.engine}" if process.engine else f"pid {process.pid}"
    return who + ("" if process.used_bytes is None else f": {gib(process.used_bytes)}")
