"""How the GPUs of one engine work together: how they reduce, and what of an expert each of them has."""

from __future__ import annotations

from vllmd.gpu.inventory import Gpu
from vllmd.planner.choice import Draft, Infeasible
from vllmd.planner.division import BLOCK_OF_FP8
from vllmd.planner.parallel import Shape
from vllmd.planner.precision import Precision
from vllmd.planner.request import Request
from vllmd.planner.topology import Topology
from vllmd.planner.use_cases import UseCase


def settle(draft: Draft, request: Request, use_case: UseCase, shape: Shape) -> None:
    """Choose whether GPUs reduce through each other's memory: where NVLink joins all of them, on server boards."""
    topology = Topology(request.links)
    kin = [gpu for gpu in request.gpus if gpu.product == shape.gpus[0].product]
    if shape.tensor > 1 and topology.all_joined(shape.gpus) and not _is_consumer(shape.gpus[0]):
        draft.choose("disable_custom_all_reduce", False, "hardware", "NVLink joins all of the GPUs")
    elif shape.tensor > 1 or (use_case.name and (_is_consumer(kin[0]) or not _may_join(topology, kin))):
        consumer = _is_consumer(shape.gpus[0])
        reason = "GeForce boards do not" if consumer else "without NVLink between all of them GPUs do not"
        alone = "one GPU has nothing to reduce, and more of these would need it: " if shape.tensor == 1 else ""
        draft.choose(
            "disable_custom_all_reduce", True, "hardware", f"{alone}{reason} reach each other's memory reliably"
        )


def _may_join(topology: Topology, kin: list[Gpu]) -> bool:
    return len(kin) < 2 or topology.all_joined(kin)


def _is_consumer(gpu: Gpu) -> bool:
    return "GEFORCE" in gpu.product.upper()


def keep_experts_whole(draft: Draft, decided: Precision, gpus: int) -> Infeasible | None:
    """Divide experts one by one where their matrices can't be divided further, or refuse if that was set otherwise.

    Args:
        draft: what is settled so far.
        decided: how weights are packed.
        gpus: among how many experts are divided, by tensors and by replicas.
    """
    facts = decided.facts
    if facts is not None and facts.kinds and not facts.experts and draft.get("enable_expert_parallel") is True:
        message = (
            "Engine argument enable_expert_parallel=True can't work here: the model has no experts. Leave it open."
        )
        return _refused(message, {"value": "True"})
    if facts is None or not facts.experts or gpus < 2:
        return None
    inner, packing = facts.expert_intermediate_size or facts.intermediate_size or 0, facts.quantization
    in_blocks = packing is not None and packing.method == "fp8" and packing.blocks
    if inner % gpus:
        reason = f"an expert's {inner} columns can't be divided among {gpus} GPUs"
    elif in_blocks and (inner // gpus) % BLOCK_OF_FP8:
        reason = f"{inner // gpus} of an expert's {inner} columns are no whole blocks of {BLOCK_OF_FP8}"
    else:
        return None
    draft.choose("enable_expert_parallel", True, "model", f"{reason}: experts are divided whole")
    if draft.get("enable_expert_parallel") is True:
        return None
    message = f"Engine argument enable_expert_parallel=False can't work here: {reason}."
    return _refused(message, {"value": "False", "obstacle": reason})


def _refused(message: str, more: dict[str, int | str]) -> Infeasible:
    numbers = {"argument": "enable_expert_parallel"} | more
    return Infeasible("INVALID_ENGINE_ARG", message, numbers, forever=True, invalid=True)
