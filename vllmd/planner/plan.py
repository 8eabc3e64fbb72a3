"""Chooses engine arguments from the model and what is free: pure, and every choice has its reason.

A simple version: as many GPUs as divide the heads, no more memory than is free, a context that fits. What the
client set is never changed: it is kept, or the plan is infeasible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.planner.kv_cache import lay_out
from vllmd.planner.weights import bytes_on_each

Source = Literal["client", "host", "auto"]

DEFAULT_UTILIZATION = 0.9
"""vLLM's usual share of a GPU; what is left is for CUDA contexts and fragmentation."""

MARGIN_BYTES = 512 << 20
"""Kept free beyond the share: between this plan and vLLM's own check other processes may take some."""

OVERHEAD_BYTES = 3 << 30
"""Per GPU beyond weights and KV cache: activations, CUDA graphs, NCCL. A rough guess until it is measured."""

DEFAULT_BATCHED_TOKENS = 8192
"""vLLM's `max_num_batched_tokens` where nobody sets it."""

CPU_KV_BYTES = 1 << 30
"""KV cache of an engine on the CPU, where vLLM would take a share of main memory."""

_NAMED_HOLDERS = 4

SMALLEST_CONTEXT = 256
"""A context below this is of no use to anybody, so the plan fails instead."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One engine argument and why it has its value."""

    name: str
    value: Any
    source: Source
    reason: str


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


@dataclasses.dataclass(frozen=True, slots=True)
class Infeasible:
    """Why there is no plan."""

    reason: str
    """For programs, such as `GPU_MEMORY_EXHAUSTED`."""
    message: str
    """For people: what is missing, and what would help."""
    numbers: Mapping[str, int]
    forever: bool
    """True if it can't fit this host whatever leaves it."""


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
    context = _context(client, facts, chosen, float(share.value), int(size))
    if isinstance(context, Infeasible):
        return context
    return Plan((*choices, *([context] if context else [])), chosen)


def _on_cpu(client: Mapping[str, Any]) -> list[Choice]:
    if "kv_cache_memory_bytes" in client:
        return []
    reason = "no GPU on this host: the engine runs on the CPU with a KV cache of 1 GiB"
    return [Choice("kv_cache_memory_bytes", CPU_KV_BYTES, "auto", reason)]


def _tensor_parallel(facts: ModelFacts | None, most: int) -> tuple[int, str]:
    """Take as many GPUs as the heads can be divided among, those of keys and values too or each copied to as many."""
    if facts is None or facts.attention_heads is None:
        return 1, "the model's heads are not known yet, so one GPU"
    heads, kv = facts.attention_heads, facts.kv_heads or facts.attention_heads
    size = max(n for n in range(1, most + 1) if heads % n == 0 and (kv % n == 0 or n % kv == 0))
    return size, f"the most of {most} GPUs that {heads} attention heads ({kv} of keys and values) can be divided among"


def _utilization(client: Mapping[str, Any], gpus: Sequence[Gpu]) -> Choice | Infeasible:
    """Take the usual share of each GPU, or what is free where that is less; vLLM checks this at start."""
    tightest = min(gpus, key=lambda gpu: (gpu.free_bytes - MARGIN_BYTES) / gpu.total_bytes)
    possible = int((tightest.free_bytes - MARGIN_BYTES) / tightest.total_bytes * 100) / 100
    wanted = client.get("gpu_memory_utilization")
    numbers = {"free_bytes": tightest.free_bytes, "total_bytes": tightest.total_bytes}
    if wanted is not None and float(wanted) * tightest.total_bytes > tightest.free_bytes:
        return Infeasible(
            "GPU_MEMORY_EXHAUSTED",
            f"gpu_memory_utilization={wanted} asks for {_gib(float(wanted) * tightest.total_bytes)} of GPU "
            f"{tightest.index}, and {_gib(tightest.free_bytes)} is free{_holders(tightest)}. "
            f"{max(possible, 0):.2f} would work now.",
            numbers,
            forever=False,
        )
    if wanted is not None:
        return Choice("gpu_memory_utilization", wanted, "client", "set by the client")
    if possible < 0.05:
        return Infeasible(
            "GPU_MEMORY_EXHAUSTED",
            f"GPU {tightest.index} has {_gib(tightest.free_bytes)} of {_gib(tightest.total_bytes)} free"
            f"{_holders(tightest)}. Stop an engine, or end what else is on it.",
            numbers,
            forever=False,
        )
    if possible >= DEFAULT_UTILIZATION:
        return Choice("gpu_memory_utilization", DEFAULT_UTILIZATION, "auto", "vLLM's usual share; that much is free")
    reason = f"GPU {tightest.index} has {_gib(tightest.free_bytes)} of {_gib(tightest.total_bytes)} free"
    return Choice("gpu_memory_utilization", possible, "auto", reason)


def _context(
    client: Mapping[str, Any], facts: ModelFacts | None, gpus: Sequence[Gpu], share: float, tensor_parallel: int
) -> Choice | Infeasible | None:
    """Take the model's own maximum, or what fits where that is less."""
    if "max_model_len" in client:
        return None
    stages = int(client.get("pipeline_parallel_size") or 1)
    weights = None if facts is None else bytes_on_each(facts, tensor_parallel, stages)
    layout = None
    if facts is not None:
        in_flight = _number(client.get("max_num_batched_tokens")) or DEFAULT_BATCHED_TOKENS
        layout = lay_out(facts, in_flight=in_flight, tensor_parallel=tensor_parallel, pipeline_parallel=stages)
    if facts is None or facts.max_model_len is None or weights is None or layout is None:
        return Choice("max_model_len", -1, "auto", "not known before the weights are read: vLLM fits it")
    pool = min(int(gpu.total_bytes * share) for gpu in gpus) - OVERHEAD_BYTES - weights
    fits = layout.longest(max(0, pool), facts.max_model_len)
    if fits == facts.max_model_len:
        return Choice("max_model_len", fits, "auto", "the model's own maximum, and it fits")
    if fits < SMALLEST_CONTEXT:
        smallest = min(gpus, key=lambda gpu: gpu.total_bytes)
        return Infeasible(
            "MODEL_TOO_LARGE" if weights > smallest.total_bytes else "GPU_MEMORY_EXHAUSTED",
            f"The weights take {_gib(weights)} on each of {len(gpus)} GPU(s), and {_gib(smallest.free_bytes)} of "
            f"{_gib(smallest.total_bytes)} is free on GPU {smallest.index}: no room for a KV cache.",
            {"weight_bytes": weights, "total_bytes": smallest.total_bytes},
            forever=weights > smallest.total_bytes,
        )
    reason = (
        f"what the KV cache holds beside {_gib(weights)} of weights on each GPU; the model's is {facts.max_model_len}"
    )
    return Choice("max_model_len", fits, "auto", reason)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _holders(gpu: Gpu) -> str:
    """Name the processes that hold most of a GPU's memory, in words that go on a sentence."""
    known = sorted(((process.used_bytes or 0, process.pid) for process in gpu.processes), reverse=True)[:_NAMED_HOLDERS]
    return f" (held by {', '.join(f'pid {pid}: {_gib(size)}' for size, pid in known)})" if known else ""


def _gib(size: float) -> str:
    return f"{size / (1 << 30):.1f} GiB"
