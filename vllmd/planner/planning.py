"""Chooses engine arguments from the model and what is free: pure, and every choice has its reason.

A simple version: as many GPUs as divide the heads, no more memory than is free, a context that fits. What the
client set is never changed: it is kept, or the plan is infeasible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.planner import batch, context, parallel
from vllmd.planner.choice import Choice, Infeasible, gib
from vllmd.planner.context import DEFAULT_UTILIZATION

MARGIN_BYTES = 512 << 20
"""Kept free beyond the share: between this plan and vLLM's own check other processes may take some."""

CPU_KV_BYTES = 1 << 30
"""KV cache of an engine on the CPU, where vLLM would take a share of main memory."""

_NAMED_HOLDERS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How to start an engine."""

    choices: tuple[Choice, ...]
    gpus: tuple[Gpu, ...]
    """Where; none for the CPU."""

    @property
    def engine_args(self) -> dict[str, Any]:
        """The arguments alone, by name."""
        return {choice.name: choice.value for choice in self.choices}


def plan(
    client: Mapping[str, Any], facts: ModelFacts | None, gpus: Sequence[Gpu], auto: bool = True
) -> Plan | Infeasible:
    """Plan one engine.

    Args:
        client: engine arguments that the client set, by vLLM's names.
        facts: what is known of the model; `None` if it has yet to be fetched.
        gpus: the GPUs that may be used, with what is free now; none means the CPU.
        auto: whether to choose what the client left open.
    """
    choices = [Choice(name, value, "client", "set by the client") for name, value in client.items()]
    if not gpus:
        return Plan((*choices, *_on_cpu(client)) if auto else tuple(choices), ())
    wanted = client.get("tensor_parallel_size")
    refused = parallel.refusal(int(wanted), facts) if auto and wanted is not None else None
    if refused is not None:
        return refused
    others = int(client.get("pipeline_parallel_size") or 1) * int(client.get("data_parallel_size") or 1)
    most = max(1, len(gpus) // others)
    size, reason = (wanted, "") if wanted is not None else _tensor_parallel(facts, most) if auto else (1, "")
    count = int(size) * others
    if count > len(gpus):
        return Infeasible(
            "NOT_ENOUGH_GPUS",
            f"The arguments ask for {count} GPUs and the host has {len(gpus)}. Lower the parallel sizes.",
            {"wanted_gpus": count, "gpus": len(gpus)},
            forever=True,
        )
    chosen = tuple(sorted(sorted(gpus, key=lambda gpu: -gpu.free_bytes)[:count], key=lambda gpu: gpu.index))
    if not auto:
        return Plan(tuple(choices), chosen)
    if wanted is None:
        choices.append(Choice("tensor_parallel_size", size, "auto", reason))
    share = _utilization(client, chosen)
    if isinstance(share, Infeasible):
        return share
    if share.source == "auto":
        choices.append(share)
    choices += batch.sizes(client, chosen)
    arguments = {choice.name: choice.value for choice in choices}
    length = context.longest(arguments, facts, chosen, float(share.value), int(size))
    if isinstance(length, Infeasible):
        return length
    return Plan((*choices, *([length] if length else [])), chosen)


def _on_cpu(client: Mapping[str, Any]) -> list[Choice]:
    if "kv_cache_memory_bytes" in client:
        return []
    reason = "no GPU on this host: the engine runs on the CPU with a KV cache of 1 GiB"
    return [Choice("kv_cache_memory_bytes", CPU_KV_BYTES, "auto", reason)]


def _tensor_parallel(facts: ModelFacts | None, most: int) -> tuple[int, str]:
    """Take as many GPUs as the heads can be divided among."""
    if facts is None or facts.attention_heads is None:
        return 1, "the model's heads are not known yet, so one GPU"
    heads = f"{facts.attention_heads} attention heads ({facts.kv_heads} of keys and values)"
    return max(parallel.sizes(facts, most)), f"the most of {most} GPUs that {heads} can be divided among"


def _utilization(client: Mapping[str, Any], gpus: Sequence[Gpu]) -> Choice | Infeasible:
    """Take the usual share of each GPU, or what is free where that is less; vLLM checks this at start."""
    tightest = min(gpus, key=lambda gpu: (gpu.free_bytes - MARGIN_BYTES) / gpu.total_bytes)
    possible = int((tightest.free_bytes - MARGIN_BYTES) / tightest.total_bytes * 100) / 100
    wanted = client.get("gpu_memory_utilization")
    numbers = {"free_bytes": tightest.free_bytes, "total_bytes": tightest.total_bytes}
    if wanted is not None and float(wanted) * tightest.total_bytes > tightest.free_bytes:
        return Infeasible(
            "GPU_MEMORY_EXHAUSTED",
            f"gpu_memory_utilization={wanted} asks for {gib(float(wanted) * tightest.total_bytes)} of GPU "
            f"{tightest.index}, and {gib(tightest.free_bytes)} is free{_holders(tightest)}. "
            f"{max(possible, 0):.2f} would work now.",
            numbers,
            forever=False,
        )
    if wanted is not None:
        return Choice("gpu_memory_utilization", wanted, "client", "set by the client")
    if possible < 0.05:
        return Infeasible(
            "GPU_MEMORY_EXHAUSTED",
            f"GPU {tightest.index} has {gib(tightest.free_bytes)} of {gib(tightest.total_bytes)} free"
            f"{_holders(tightest)}. Stop an engine, or end what else is on it.",
            numbers,
            forever=False,
        )
    if possible >= DEFAULT_UTILIZATION:
        return Choice("gpu_memory_utilization", DEFAULT_UTILIZATION, "auto", "vLLM's usual share; that much is free")
    reason = f"GPU {tightest.index} has {gib(tightest.free_bytes)} of {gib(tightest.total_bytes)} free"
    return Choice("gpu_memory_utilization", possible, "auto", reason)


def _holders(gpu: Gpu) -> str:
    """Name the processes that hold most of a GPU's memory, in words that go on a sentence."""
    known = sorted(((process.used_bytes or 0, process.pid) for process in gpu.processes), reverse=True)[:_NAMED_HOLDERS]
    return f" (held by {', '.join(f'pid {pid}: {gib(size)}' for size, pid in known)})" if known else ""
