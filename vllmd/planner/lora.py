"""How an engine is set up for LoRA adapters: what vLLM has to be told follows from them, and costs memory.

Slots for `max_loras` adapters of `max_lora_rank` are allocated on the GPU when the model is loaded, whatever is used
later; `weights.adapter_bytes` reckons with them. The adapters themselves lie in main memory, `max_cpu_loras` of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from vllmd.planner.choice import Draft, Infeasible, whole_number

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `max_lora_rank` can be, in vLLM 0.22 to 0.33; 1 as well, which nobody needs."""

MOST_AT_ONCE = 4
"""How many adapters one batch may have requests of, where nobody says otherwise: each slot takes GPU memory."""

_COUNTS = ("max_lora_rank", "max_loras", "max_cpu_loras")


@dataclasses.dataclass(frozen=True, slots=True)
class Adapters:
    """LoRA adapters that an engine is to have."""

    paths: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Their directories, by name."""
    rank: int | None = None
    """The largest of any; `None` if it is not known."""


NONE = Adapters()


def settle(draft: Draft, adapters: Adapters) -> Infeasible | None:
    """Choose what vLLM needs for some adapters; nothing if there are none."""
    if not adapters.paths:
        return None
    refused = _refusal(draft, adapters)
    if refused is not None:
        return refused
    count, rank = len(adapters.paths), adapters.rank
    draft.choose("enable_lora", True, "client", "LoRA adapters are asked for")
    if rank is not None:
        reason = f"the least that vLLM takes for a rank of {rank}, the adapters' largest"
        draft.choose("max_lora_rank", next(one for one in RANKS if one >= rank), "model", reason)
    kept = draft.count("max_cpu_loras")
    at_once = min(count, kept or count, MOST_AT_ONCE)
    reason = "one batch has requests of all adapters" if at_once == count else "each takes a slot of GPU memory"
    draft.choose("max_loras", at_once, "auto", reason)
    slots = draft.count("max_loras", 1) or 1
    if count > slots:
        draft.choose("max_cpu_loras", count, "auto", "all adapters stay in main memory once they are read")
    return None


def _refusal(draft: Draft, adapters: Adapters) -> Infeasible | None:
    if draft.get("enable_lora") is False:
        return _refused(draft, "enable_lora", "must be true, or left open, where LoRA adapters are asked for")
    for name in _COUNTS:
        if draft.get(name) is not None and whole_number(draft.get(name)) is None:
            return _refused(draft, name, f"must be a whole number from 1, not {draft.get(name)!r}")
    slots, kept = draft.count("max_loras"), draft.count("max_cpu_loras")
    if slots is not None and kept is not None and kept < slots:
        return _refused(draft, "max_cpu_loras", f"must be at least max_loras, {slots}", max_cpu_loras=kept)
    most, rank = draft.count("max_lora_rank"), adapters.rank
    if rank is None:
        return None
    if rank > RANKS[-1]:
        message = f"A LoRA adapter has a rank of {rank}; vLLM takes at most {RANKS[-1]}."
        return Infeasible("INVALID_LORA", message, {"rank": rank, "largest_rank": RANKS[-1]}, True, invalid=True)
    if most is not None and most < rank:
        least = next(one for one in RANKS if one >= rank)
        text = f"is {most}, and an adapter has a rank of {rank}: at least {least} is needed"
        return _refused(draft, "max_lora_rank", text, rank=rank, least_max_lora_rank=least)
    return None


def _refused(draft: Draft, name: str, rule: str, **numbers: int) -> Infeasible:
    host = draft.source(name) == "host"
    where = ", as this host's configuration sets it" if host else ""
    message = f"Engine argument {name} {rule}{where}."
    return Infeasible("INVALID_ENGINE_ARG", message, numbers, forever=True, invalid=not host)
