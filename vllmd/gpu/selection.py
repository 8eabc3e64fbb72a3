"""Which of the host's GPUs are this daemon's: those that `CUDA_VISIBLE_DEVICES` names, as CUDA itself would read it."""

from __future__ import annotations

from collections.abc import Sequence

from vllmd.gpu.inventory import Gpu


def select(gpus: Sequence[Gpu], visible: str | None) -> tuple[Gpu, ...]:
    """Pick the GPUs that a list such as `0,2` or `GPU-8f2c,MIG-91` names.

    Numbers are NVML's (the order of the bus), whatever order CUDA would number them in. As with CUDA, the beginning
    of a UUID is enough where it is nobody else's, and the first name that is no GPU's ends the list. Unlike with CUDA,
    which would take the first slice and leave the others, the name of a GPU that is cut into MIG slices is that of all
    of them: each engine is given one by its own name.

    Args:
        gpus: all GPUs of the host, and in place of those that are cut up, their slices.
        visible: the list; `None` for all of them.
    """
    if visible is None:
        return tuple(gpus)
    chosen: list[Gpu] = []
    for name in (part.strip() for part in visible.split(",")):
        named = [gpu for gpu in gpus if _names(name, gpu)]
        # Of one GPU all slices, but of slices one.
        if len({gpu.uuid if name.startswith("MIG-") else gpu.whole for gpu in named}) != 1:
            break
        chosen += [gpu for gpu in named if gpu not in chosen]
    return tuple(sorted(chosen, key=lambda gpu: gpu.index))


def _names(name: str, gpu: Gpu) -> bool:
    if name.startswith("MIG-"):
        return gpu.uuid.startswith(name)
    return name == str(gpu.index) or (name.startswith("GPU-") and gpu.whole.startswith(name))
