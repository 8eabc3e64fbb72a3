"""Chooses engine arguments from the model, the GPUs and the use case: pure, and every choice has its reason.

Ways to divide the model are tried in the order of `parallel.ways`; the first on which the whole context that is
wanted fits is taken, else the one with the longest. What the client set is never changed: it is kept, or the plan is
infeasible, with what would make it feasible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from vllmd.gpu.inventory import Gpu
from vllmd.models.lengths import Runner
from vllmd.planner import batch, collectives, context, lora, numbers, parallel, precision, share, use_cases
from vllmd.planner.choice import Choice, Draft, Infeasible
from vllmd.planner.footprint import KvCache, measure
from vllmd.planner.memory import GpuMemory, Sizes, beyond
from vllmd.planner.parallel import Shape
from vllmd.planner.profile import Key, key
from vllmd.planner.request import Request
from vllmd.planner.topology import Topology, alike
from vllmd.planner.use_cases import UseCase

CPU_KV_BYTES = 1 << 30
"""KV cache of an engine on the CPU, where vLLM would take a share of main memory."""

_NO_SUCH_USE_CASE = "INVALID_USE_CASE"
_NOT_THE_HOSTS = frozenset({_NO_SUCH_USE_CASE, "INVALID_LORA"})
"""What only a client can ask for."""

_ROOMY = 0.75
"""Of the usual share: with less, somebody else is on the GPU in earnest."""

_OF_GENERATION = frozenset({"enable_chunked_prefill", "enable_prefix_caching"})
"""vLLM warns of wrong results where an encoder is made to have these; for a model that pools it knows best."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How to start an engine."""

    choices: tuple[Choice, ...]
    gpus: tuple[Gpu, ...]
    """Where; none for the CPU."""
    memory: GpuMemory | None = None
    """What is on the GPU that has least left, once the engine runs; `None` if that is not known."""
    cache: KvCache | None = None
    left_open: Mapping[str, int] = dataclasses.field(default_factory=dict, kw_only=True)
    """What vLLM is reckoned to have by default, of what was left to it."""
    profile_key: Key | None = dataclasses.field(default=None, kw_only=True)
    """What this load may be remembered by; `None` if nothing is known of the model."""
    lora: Mapping[str, str] = dataclasses.field(default_factory=dict, kw_only=True)
    """The LoRA adapters that it gets: their directories, by name."""

    @property
    def engine_args(self) -> dict[str, Any]:
        """The arguments alone, by name."""
        return {choice.name: choice.value for choice in self.choices}


@dataclasses.dataclass(frozen=True, slots=True)
class _Tried:
    """One way, and how good it is."""

    plan: Plan
    fits: bool
    """Whether the whole context that is wanted does."""
    length: int
    roomy: bool
    """Whether about the share that is usual is free: where all GPUs are wanted, fewer empty ones are better."""


def plan(request: Request) -> Plan | Infeasible:
    """Plan one engine; see `remedies.plan` for one that also says what would help where there is none."""
    found = _plan(request)
    if isinstance(found, Infeasible) and found.invalid and not request.client and found.reason not in _NOT_THE_HOSTS:
        # What this host's configuration sets is no client's mistake.
        reason = "INVALID_HOST_ARG" if found.reason == "INVALID_ENGINE_ARG" else found.reason
        return dataclasses.replace(found, reason=reason, invalid=False)
    if isinstance(found, Plan) and request.adapters.paths:
        return dataclasses.replace(found, lora=request.adapters.paths)
    return found


def _plan(request: Request) -> Plan | Infeasible:
    draft = Draft()
    for name, value in request.client.items():
        draft.choose(name, value, "client", "set by the client")
    for name, value in request.host.items():
        draft.choose(name, value, "host", "set by this host's configuration")
    use_case = use_cases.named(request.use_case)
    if use_case is None:
        return _unknown_use_case(str(request.use_case))
    odd = numbers.refusal(draft) or lora.settle(draft, request.adapters)
    if odd is not None:
        return odd
    if not request.auto:
        return _as_asked(draft, request)
    runner = draft.get("runner")
    if request.facts is not None and runner in get_args(Runner):  # else vLLM chooses it, by the model
        request = dataclasses.replace(request, facts=dataclasses.replace(request.facts, runner=runner))
    refused = context.refusal(draft, request.facts) or batch.refusal(draft)
    if refused is not None:
        return refused
    if not request.gpus:
        return _on_cpu(draft)
    wanted = draft.count("tensor_parallel_size")
    refused = parallel.refusal(wanted, request.facts) if wanted is not None else None
    return refused or parallel.refuse_others(draft, request) or _best(draft, request, use_case)


def _best(draft: Draft, request: Request, use_case: UseCase) -> Plan | Infeasible:
    best: _Tried | None = None
    failed: list[Infeasible] = []
    for case, shape in _tries(draft, request, use_case):
        for large in (True, False) if batch.are_large(shape.gpus) else (False,):
            found = _try(draft.copy(), request, case, shape, large)
            if isinstance(found, Infeasible):
                failed.append(found)
                continue
            if found.fits and (found.roomy or use_case.spread != "all"):
                return found.plan
            if best is None or (not best.fits and found.length > best.length):
                best = found
    if best is not None:
        return best.plan
    return _most_telling(failed) if failed else _too_few(draft, request)


def _tries(draft: Draft, request: Request, use_case: UseCase) -> Iterator[tuple[UseCase, Shape]]:
    """List all ways: with the share of the use case, and with the usual where it takes less, rather than none."""
    shapes = []
    for shape in parallel.ways(draft, request, use_case.spread):
        shapes.append(shape)
        yield use_case, shape
    if use_case.share < use_cases.GENERAL.share:
        wider = dataclasses.replace(use_case, share=use_cases.GENERAL.share)
        yield from ((wider, shape) for shape in shapes)


def _try(draft: Draft, request: Request, use_case: UseCase, shape: Shape, large: bool) -> _Tried | Infeasible:
    """Settle everything for one way to divide the model."""
    gpus, facts = shape.gpus, request.facts
    _divide(draft, shape)
    batch.settle(draft, gpus, use_case, large)
    for name, value, reason in use_case.arguments:
        if name not in _OF_GENERATION or facts is None or facts.runner == "generate":
            draft.choose(name, value, "use case", reason)
    goal = context.target(draft, facts, use_case)
    collectives.settle(draft, request, use_case, shape)
    decided = precision.settle(draft, facts, gpus)
    if isinstance(decided, Infeasible):
        return decided
    refused = collectives.keep_experts_whole(draft, decided, shape.tensor * shape.replicas) or batch.refusal(draft)
    if refused is not None:
        return refused
    sizes = _sizes(draft, request, shape)
    remembered = key(facts.fingerprint, gpus[0].product, draft.engine_args) if facts and facts.fingerprint else None
    profile = request.profiles(remembered) if remembered is not None else None
    if profile is not None and not profile.is_possible_on(min(gpu.total_bytes for gpu in gpus)):
        profile = None
    footprint = measure(draft, decided, sizes, profile)
    on_top = footprint.graphs_beyond if footprint else beyond(facts, sizes)
    own = draft.count("kv_cache_memory_bytes")
    usual, why = use_case.share, ""
    its_own = use_cases.named(use_case.name)
    if its_own is not None and its_own is not use_case:
        why = f"the usual share, as it does not fit into the {its_own.share:g} of the use case {use_case.name}"
    blocks = draft.count("num_gpu_blocks_override")
    if footprint is not None and (blocks is not None or own is not None):
        refused = share.refusal(draft, footprint, gpus)
        if refused is not None:
            return refused
    if own is not None and footprint is not None:
        usual = share.of(footprint.taken + own, gpus)
        why = "as much as the KV cache that is set and all else of the engine take"
    full = share.settle(draft, gpus, usual, on_top, "" if why else use_case.name, why)
    if full is not None:
        return context.never(draft, footprint, gpus, goal) or full
    budget = min(int(gpu.usable_bytes * float(draft.get("gpu_memory_utilization"))) for gpu in gpus)
    pool = own if own is not None else footprint.pool(budget) if footprint else 0
    if blocks is not None and footprint is not None:  # vLLM allocates as many, whatever it measured
        pool = blocks * footprint.layout.block_bytes
    if footprint is not None and footprint.has_states and not sizes.eager and pool >= footprint.layout.block_bytes:
        refused = batch.fit_states(draft, sizes.sequences, pool // footprint.layout.block_bytes)
        if refused is not None:
            return refused
    failed = context.settle(draft, decided.facts, footprint, pool, gpus, use_case)
    if failed is not None:
        return failed
    length = int(draft.get("max_model_len", 0))
    tightest = min(gpus, key=lambda gpu: gpu.free_bytes)
    bytes_per_token = facts.kv_bytes_per_token if facts is not None else None
    if bytes_per_token is not None and decided.cache_bytes is not None:
        bytes_per_token = int(bytes_per_token * decided.cache_bytes / 2)
    made = Plan(
        draft.choices if profile is None else _credited(draft, profile.vllm_version),
        gpus,
        footprint.on(tightest.total_bytes, tightest.total_bytes - tightest.free_bytes, pool) if footprint else None,
        footprint.cache(pool, length, bytes_per_token) if footprint and length > 0 else None,
        left_open={
            name: value
            for name, value in (("max_num_batched_tokens", sizes.tokens), ("max_num_seqs", sizes.sequences))
            if name not in draft
        },
        profile_key=remembered,
    )
    enough = float(draft.get("gpu_memory_utilization")) >= _ROOMY * usual
    roomy = shape.pipeline == 1 and (enough or "gpu_memory_utilization" in request.wanted)
    return _Tried(made, goal is None or length < 0 or length >= goal, length, roomy)


def _divide(draft: Draft, shape: Shape) -> None:
    draft.choose("tensor_parallel_size", shape.tensor, shape.source, shape.reason)
    if shape.pipeline > 1:
        draft.choose("pipeline_parallel_size", shape.pipeline, shape.source, shape.reason)
    if shape.replicas > 1:
        reason = f"{shape.replicas} copies of the model, each with requests of its own"
        draft.choose("data_parallel_size", shape.replicas, "use case", reason)


def _sizes(draft: Draft, request: Request, shape: Shape) -> Sizes:
    tokens, sequences = batch.assumed(draft, shape.gpus, request.program)
    return Sizes(
        tokens=tokens,
        sequences=sequences,
        tensor_parallel=shape.tensor,
        pipeline_parallel=shape.pipeline,
        data_parallel=shape.replicas,
        eager=draft.get("enforce_eager") is True,
        largest_graph=draft.count("max_cudagraph_capture_size"),
        capability=shape.gpus[0].compute_capability,
    )


def _credited(draft: Draft, version: str) -> tuple[Choice, ...]:
    """Say of what was worked out that an earlier load was gone by."""
    seen = f"reckoned with what an earlier load like this took, under vLLM {version}"
    return tuple(
        dataclasses.replace(choice, source="profile", reason=f"{choice.reason}; {seen}")
        if choice.name == "max_model_len" and choice.source not in ("client", "host")
        else choice
        for choice in draft.choices
    )


def _as_asked(draft: Draft, request: Request) -> Plan | Infeasible:
    """Choose nothing but where it runs."""
    count = draft.wanted_gpus()
    if not request.gpus:
        return Plan(draft.choices, ())
    if count > len(request.gpus):
        return _too_few(draft, request)
    topology = Topology(request.links)
    group = next((group for group in alike(request.gpus) if len(group) >= count), parallel.whole(request.gpus))
    if count > len(group):
        return _too_few(draft, request)
    return Plan(draft.choices, next(topology.sets(group, count)))


def _on_cpu(draft: Draft) -> Plan:
    reason = "no GPU on this host: the engine runs on the CPU with a KV cache of 1 GiB"
    draft.choose("kv_cache_memory_bytes", CPU_KV_BYTES, "hardware", reason)
    return Plan(draft.choices, ())


def _most_telling(failed: list[Infeasible]) -> Infeasible:
    """Of the reasons of all ways, take that of the way that misses least; what may pass before what never will."""
    return min(failed, key=lambda one: (one.forever, int(one.numbers.get("missing_bytes", 0))))


def _too_few(draft: Draft, request: Request) -> Infeasible:
    count = draft.wanted_gpus()
    slices = any(gpu.mig_parent for gpu in request.gpus)
    why = " An engine can't be divided among MIG slices." if slices else ""
    return Infeasible(
        "NOT_ENOUGH_GPUS",
        f"The arguments ask for {count} GPUs and the host has {len(request.gpus)}.{why} Lower the parallel sizes.",
        {"wanted_gpus": count, "gpus": len(request.gpus)},
        forever=True,
    )


def _unknown_use_case(name: str) -> Infeasible:
    known = ", ".join(use_cases.USE_CASES)
    message = f"There is no use case {name!r}: it can be {known}."
    return Infeasible(_NO_SUCH_USE_CASE, message, {"use_case": name}, forever=True, invalid=True)
