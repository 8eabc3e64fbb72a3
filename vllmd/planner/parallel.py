"""Among how many GPUs a model can be divided, and in which way it is best done."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind
from vllmd.planner.choice import Draft, Infeasible, Source
from vllmd.planner.division import obstacle
from vllmd.planner.request import Request
from vllmd.planner.topology import Topology, alike
from vllmd.planner.use_cases import Spread

_MOST_GPUS = 64
"""Sizes beyond are not worth naming."""

_WITHOUT_STAGES = frozenset(
    {
        "Gemma3nForCausalLM", "HrmTextForCausalLM", "IQuestLoopCoderForCausalLM", "Mamba2ForCausalLM",
        "OuroForCausalLM", "Phi4MMForCausalLM", "Zamba2ForCausalLM",
    }
)  # fmt: skip
"""Architectures of decoders that are no `SupportsPP` in vLLM 0.25.1."""

_ALONE = "the model's heads are not known yet, so one GPU"


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One way to divide a model."""

    gpus: tuple[Gpu, ...]
    tensor: int
    pipeline: int = 1
    replicas: int = 1
    reason: str = ""
    source: Source = "hardware"


def is_known(facts: ModelFacts | None) -> bool:
    """Tell whether enough is known of a model to divide it."""
    return facts is not None and (facts.attention_heads is not None or bool(facts.kinds))


def sizes(facts: ModelFacts | None, most: int) -> list[int]:
    """List the numbers of GPUs, up to *most*, among which vLLM can divide a model; one if nothing is known of it."""
    if not is_known(facts):
        return [1]
    assert facts is not None
    return [n for n in range(1, most + 1) if obstacle(facts, n) is None]


def refusal(wanted: int, facts: ModelFacts | None) -> Infeasible | None:
    """Refuse a `tensor_parallel_size` that was set and among which the model can't be divided, with those that do."""
    why = obstacle(facts, wanted) if facts is not None else None
    if facts is None or why is None:
        return None
    heads: dict[str, int | str] = {"attention_heads": facts.attention_heads} if facts.attention_heads else {}
    possible = ", ".join(map(str, sizes(facts, min(facts.attention_heads or _MOST_GPUS, _MOST_GPUS))))
    return Infeasible(
        "INVALID_ENGINE_ARG",
        f"tensor_parallel_size={wanted} {why}: it can be {possible}.",
        heads | {"tensor_parallel_size": wanted, "obstacle": why, "possible": possible},
        forever=True,
        invalid=True,
    )


def refuse_others(draft: Draft, request: Request) -> Infeasible | None:
    """Refuse stages that a model can't have, and replicas for the class `vllm.LLM`, which takes none."""
    facts = request.facts
    numbers: dict[str, int | str]
    stages, layers = draft.count("pipeline_parallel_size") or 1, facts.layers if facts is not None else None
    if layers is not None and stages > layers:
        numbers = {"argument": "pipeline_parallel_size", "value": stages, "limit": layers}
        return _never(f"pipeline_parallel_size={stages} is more than the model's {layers} layers.", numbers)
    if (draft.count("pipeline_parallel_size") or 1) > 1 and facts is not None and _is_whole(facts):
        what = f"pipeline_parallel_size={draft.get('pipeline_parallel_size')} can't work here: vLLM does not divide"
        numbers = {"argument": "pipeline_parallel_size", "value": stages}
        return _never(f"{what} {facts.architecture} into stages. Leave it open, and set tensor_parallel_size.", numbers)
    if (draft.count("data_parallel_size") or 1) > 1 and request.program == "llm":
        what = f"data_parallel_size={draft.get('data_parallel_size')} can't work here: vllm.LLM takes 1 alone"
        numbers = {"argument": "data_parallel_size", "value": draft.count("data_parallel_size") or 1, "limit": 1}
        return _never(f"{what}. Start a process for each replica, or use the daemon.", numbers)
    return None


def _never(message: str, numbers: dict[str, int | str]) -> Infeasible:
    return Infeasible("INVALID_ENGINE_ARG", f"Engine argument {message}", numbers, forever=True, invalid=True)


def _is_whole(facts: ModelFacts) -> bool:
    return facts.architecture in _WITHOUT_STAGES or Kind.ENCODER in (facts.kinds or ())


def ways(draft: Draft, request: Request, spread: Spread) -> Iterator[Shape]:
    """List ways on GPUs that are alike, and only where a caller's sizes leave no other way on such that are not.

    Of several kinds the one comes first on which fewer GPUs will do, if few are wanted, and stages come last on all.
    """
    topology = Topology(request.links)
    groups = alike(request.gpus)
    several = request.program == "engine"

    def on(gpus: Sequence[Gpu]) -> Iterator[Shape]:
        return shapes(draft, request.facts, gpus, topology, spread, several)

    if len(groups) == 1:
        yield from on(groups[0])
        return
    found = [_of_one_kind(shape, len(request.gpus), len(groups)) for group in groups for shape in on(group)]
    few = spread == "fewest"
    yield from sorted(found, key=lambda way: (way.pipeline, len(way.gpus) if few else 0))
    if not found:
        yield from on(whole(request.gpus))


def whole(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Leave MIG slices out, among which no engine can be divided."""
    return tuple(gpu for gpu in gpus if not gpu.mig_parent)


def _of_one_kind(shape: Shape, gpus: int, kinds: int) -> Shape:
    why = f"of {gpus} GPUs of {kinds} kinds, only such of one kind: {shape.gpus[0].product}"
    return dataclasses.replace(shape, reason=f"{shape.reason}; {why}")


def shapes(
    draft: Draft, facts: ModelFacts | None, gpus: Sequence[Gpu], topology: Topology, spread: Spread, several: bool
) -> Iterator[Shape]:
    """List the ways to divide a model among GPUs that are alike, the one to try first first.

    Args:
        draft: what is settled; a parallel size there is kept.
        facts: the model.
        gpus: those that may be used.
        topology: how they are connected.
        spread: how many are wanted.
        several: whether a caller can take replicas.
    """
    if spread == "replicas" and facts is not None and facts.experts:
        spread = "all"  # vLLM divides experts among replicas, so that these are no copies
    fixed = draft.count("tensor_parallel_size")
    stages = draft.count("pipeline_parallel_size", 1) or 1
    replicas = draft.count("data_parallel_size", 1) or 1
    most = len(gpus) // (stages * replicas)
    possible = [fixed] if fixed else sizes(facts, most)
    for size in _in_order([size for size in possible if size <= most], gpus, topology, spread):
        count = size * stages * replicas
        for chosen in topology.sets(gpus, count):
            reason = _reason(size, facts, gpus, chosen, topology, spread)
            if most == 1 < len(gpus) and is_known(facts):
                reason = f"{len(gpus)} GPUs are no more than one for each part that is set"
            shape = Shape(chosen, size, stages, replicas, reason)
            if spread == "replicas" and several and "data_parallel_size" not in draft:
                yield from _with_replicas(shape, facts, gpus)
            yield shape
    if "pipeline_parallel_size" not in draft and replicas == 1 and _has_stages(facts):
        yield from _staged(fixed, facts, gpus, topology)


def _in_order(possible: Sequence[int], gpus: Sequence[Gpu], topology: Topology, spread: Spread) -> list[int]:
    """Order sizes by what is wanted: beyond an island of NVLink only where that does not suffice."""
    ascending = sorted(possible)
    island = max((len(one) for one in topology.islands(gpus)), default=0)
    inside = [size for size in ascending if size <= island]
    match spread:
        case "fewest" | "replicas":
            return ascending
        case "island" if not island:
            return ascending
        case _ if inside and inside[-1] > 1:
            beyond = [size for size in ascending if size > inside[-1]]
            return [inside[-1], *beyond, *reversed(inside[:-1])]
        case _:
            return ascending[::-1]


def _reason(
    size: int,
    facts: ModelFacts | None,
    gpus: Sequence[Gpu],
    chosen: Sequence[Gpu],
    topology: Topology,
    spread: Spread,
) -> str:
    if not is_known(facts):
        return _ALONE
    assert facts is not None
    heads = "the model" if facts.attention_heads is None else f"{facts.attention_heads} attention heads"
    kv = f" ({facts.kv_heads} of keys and values)" if facts.kv_heads and facts.attention_heads else ""
    if spread in ("fewest", "replicas"):
        return f"as few of {len(gpus)} GPUs as it fits on"
    if size == 1:
        return _reason_for_one(facts, gpus, topology, spread, f"{heads}{kv}")
    if topology.all_joined(chosen):
        return f"{heads}{kv} divided among {size} of {len(gpus)} GPUs, joined by NVLink"
    apart = "without NVLink between all of them, so what they exchange goes over PCIe"
    return f"{heads}{kv} divided among {size} of {len(gpus)} GPUs; {apart}"


def _reason_for_one(facts: ModelFacts, gpus: Sequence[Gpu], topology: Topology, spread: Spread, heads: str) -> str:
    if len(gpus) == 1:
        return "there is one GPU of this kind"
    if max(sizes(facts, len(gpus))) == 1:
        return f"the most of {len(gpus)} GPUs that {heads} can be divided among"
    if spread == "island" and not topology.islands(gpus):
        return f"it fits on one of {len(gpus)} GPUs, and without NVLink between them more would hold each step up"
    return f"divided among more of {len(gpus)} GPUs it would have less room, with what is free on them now"


def _with_replicas(shape: Shape, facts: ModelFacts | None, gpus: Sequence[Gpu]) -> Iterator[Shape]:
    """Use what is left for replicas, or fewer of them where some GPUs are too full.

    Of dense models only, as experts are divided among replicas by vLLM.
    """
    if facts is None or facts.experts:
        return
    each = shape.tensor * shape.pipeline
    freest = sorted(gpus, key=lambda gpu: -gpu.free_bytes)
    for replicas in range(len(gpus) // each, 1, -1):
        used = tuple(sorted(freest[: replicas * each], key=_index))
        yield dataclasses.replace(shape, gpus=used, replicas=replicas)


def _index(gpu: Gpu) -> int:
    return gpu.index


def _has_stages(facts: ModelFacts | None) -> bool:
    return (
        facts is not None
        and facts.runner == "generate"
        and bool(facts.layers)
        and not facts.multimodal
        and not _is_whole(facts)
    )


def _staged(fixed: int | None, facts: ModelFacts | None, gpus: Sequence[Gpu], topology: Topology) -> Iterator[Shape]:
    """List ways in stages: for what fits on no number of GPUs that divides the heads."""
    layers = (facts.layers if facts is not None else None) or 1
    for stages in range(2, min(len(gpus), layers) + 1):
        possible = [fixed] if fixed else sizes(facts, len(gpus) // stages)
        for size in sorted((size for size in possible if size * stages <= len(gpus)), reverse=True):
            reason = f"{layers} layers in {stages} stages: it fits on no number of GPUs that divides the heads alone"
            yield Shape(next(topology.sets(gpus, size * stages)), size, stages, 1, reason)
