"""Among how many GPUs a model can be divided, and in which way it is best done."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.planner.choice import Draft, Infeasible, Source, parts
from vllmd.planner.request import Request
from vllmd.planner.topology import Topology, alike
from vllmd.planner.use_cases import Spread

_MOST_GPUS = 64
"""Sizes beyond are not worth naming."""

_BLOCK_OF_FP8 = 128
"""Along which weights of a checkpoint in blocks of FP8 share a scale."""
_IN_USE = 8
"""What every MLP's size is a multiple of."""
_ROWS = 64
"""vLLM fills a vocabulary up to a multiple of this, and then divides it (`VocabParallelEmbedding`)."""

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
    """List the numbers of GPUs, up to *most*, among which vLLM can divide a model's matrices.

    Attention heads evenly; those of keys and values too, or each of them copied to as many; an MLP's inner columns, and
    where they are packed in groups or blocks each of these whole; and the rows of the embedding. One for a model of
    which nothing is known.
    """
    if not is_known(facts):
        return [1]
    assert facts is not None
    return [n for n in range(1, most + 1) if _divides(n, facts)]


def _divides(n: int, facts: ModelFacts) -> bool:
    return _divides_heads(n, facts) and _divides_columns(n, facts) and _rows(facts) % n == 0


def _rows(facts: ModelFacts) -> int:
    """Say how many rows the embedding has once vLLM has filled it up; 0, which all numbers divide, if not known."""
    return parts(facts.vocabulary or 0, _ROWS) * _ROWS


def _divides_heads(n: int, facts: ModelFacts) -> bool:
    heads, kv = facts.attention_heads, facts.kv_heads or facts.attention_heads
    if heads is None or kv is None:
        return True
    if facts.latent_dim is not None:
        kv = 1  # MLA's vector is for all heads, and on each GPU
    return heads % n == 0 and (kv % n == 0 or n % kv == 0)


def _divides_columns(n: int, facts: ModelFacts) -> bool:
    """Tell whether each GPU gets whole groups of an MLP's columns; experts can be divided one by one instead."""
    if facts.intermediate_size is None or facts.experts or facts.intermediate_size % _IN_USE:
        return True  # an odd size is no MLP's, or one of which little is known
    packing = facts.quantization
    whole = 1 if packing is None else _BLOCK_OF_FP8 if packing.blocks else packing.group or 1
    return facts.intermediate_size % (n * whole) == 0


def refusal(draft: Draft, facts: ModelFacts | None) -> Infeasible | None:
    """Refuse parallel sizes that were set and that divide no heads or layers, with those that do."""
    wanted, stages = draft.count("tensor_parallel_size"), draft.count("pipeline_parallel_size")
    if facts is None:
        return None
    if wanted is not None and is_known(facts) and not _divides(wanted, facts):
        possible = ", ".join(map(str, sizes(facts, min(facts.attention_heads or _MOST_GPUS, _MOST_GPUS))))
        message = f"tensor_parallel_size={wanted} does not divide {_undivided(wanted, facts)}: it can be {possible}."
        heads = {"attention_heads": facts.attention_heads} if facts.attention_heads else {}
        return _invalid(message, {**heads, "tensor_parallel_size": wanted})
    if stages is not None and facts.layers is not None and stages > facts.layers:
        message = f"pipeline_parallel_size={stages} is more than the model's {facts.layers} layers."
        return _invalid(message, {"layers": facts.layers, "pipeline_parallel_size": stages})
    return None


def _undivided(wanted: int, facts: ModelFacts) -> str:
    """Say what of a model some number does not divide."""
    if not _divides_heads(wanted, facts):
        heads = f"{facts.attention_heads} attention heads"
        if facts.kv_heads and facts.kv_heads != facts.attention_heads:
            heads += f" with {facts.kv_heads} of keys and values"
        return f"the model's {heads}"
    if _divides_columns(wanted, facts):
        return f"the {_rows(facts)} rows that vLLM makes of the model's vocabulary"
    packed = ", which are packed in groups," if facts.quantization is not None else ""
    return f"the {facts.intermediate_size} columns of the model's MLP{packed} evenly"


def _invalid(message: str, numbers: dict[str, int]) -> Infeasible:
    return Infeasible("INVALID_ENGINE_ARG", message, numbers, forever=True, invalid=True)


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
    return facts is not None and facts.runner == "generate" and bool(facts.layers) and not facts.multimodal


def _staged(fixed: int | None, facts: ModelFacts | None, gpus: Sequence[Gpu], topology: Topology) -> Iterator[Shape]:
    """List ways in stages: for what fits on no number of GPUs that divides the heads."""
    layers = (facts.layers if facts is not None else None) or 1
    for stages in range(2, min(len(gpus), layers) + 1):
        possible = [fixed] if fixed else sizes(facts, len(gpus) // stages)
        for size in sorted((size for size in possible if size * stages <= len(gpus)), reverse=True):
            reason = f"{layers} layers in {stages} stages: it fits on no number of GPUs that divides the heads alone"
            yield Shape(next(topology.sets(gpus, size * stages)), size, stages, 1, reason)
