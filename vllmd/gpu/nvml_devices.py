"""Reads one GPU through NVML, or the MIG slices that it is cut into.

The functions take the `pynvml` module, which only `nvml` imports.

A slice takes the place of its GPU, as CUDA has it: nothing can be run on a GPU that is cut up. It has the index of its
GPU, since NVML numbers GPUs only, and what befalls the GPU befalls its slices; its UUID tells it from the others. What
NVML measures of whole GPUs only, which is the power and the utilization, stays unknown.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from vllmd.gpu.inventory import Gpu, GpuProcess, PciLink

_MIG_ENABLED = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    """What of a GPU does not change from one second to the next, so that a snapshot need not ask."""

    product: str
    compute_capability: tuple[int, int] | None
    pci: PciLink | None
    power_limit_watts: float | None
    reserved_bytes: int
    has_mig: bool
    """Whether it can be cut into slices: NVML has an answer to whether it is."""


def read(pynvml: Any, index: int, known: dict[str, Fixed]) -> list[Gpu]:
    """Read a GPU: itself, or its slices, none if it has none yet.

    Args:
        pynvml: the module.
        index: NVML's number of the GPU.
        known: what was asked before, by UUID; what is asked now is added.

    Raises:
        pynvml.NVMLError: it can't be read.
    """
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    uuid = str(pynvml.nvmlDeviceGetUUID(handle))
    if uuid not in known:
        known[uuid] = _fixed(pynvml, handle)
    fixed = known[uuid]
    if not fixed.has_mig or not _is_cut(pynvml, handle):
        return [_gpu(pynvml, handle, uuid, index, fixed)]
    slices = []
    for one in _slices(pynvml, handle):
        own = str(pynvml.nvmlDeviceGetUUID(one))
        if own not in known:
            known[own] = _fixed_of_slice(pynvml, one, fixed)
        slices.append(dataclasses.replace(_gpu(pynvml, one, own, index, known[own]), mig_parent=uuid))
    return slices


def _gpu(pynvml: Any, handle: Any, uuid: str, index: int, fixed: Fixed) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    utilization: float | None = None
    power: float | None = None
    with unanswered_is_unknown(pynvml):
        utilization = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    with unanswered_is_unknown(pynvml):
        power = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
    return Gpu(
        uuid=uuid,
        index=index,
        product=fixed.product,
        total_bytes=memory.total,
        used_bytes=memory.used,
        free_bytes=memory.free,
        compute_capability=fixed.compute_capability,
        utilization=utilization,
        processes=_processes(pynvml, handle),
        pci=fixed.pci,
        power_watts=power,
        power_limit_watts=fixed.power_limit_watts,
        reserved_bytes=fixed.reserved_bytes,
    )


def _processes(pynvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    found = []
    with unanswered_is_unknown(pynvml):
        found = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return tuple(GpuProcess(entry.pid, entry.usedGpuMemory) for entry in found)


def _fixed(pynvml: Any, handle: Any) -> Fixed:
    capability: tuple[int, int] | None = None
    limit: float | None = None
    with unanswered_is_unknown(pynvml):
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = (major, minor)
    with unanswered_is_unknown(pynvml):
        limit = pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000
    has_mig = _is_cut(pynvml, handle) is not None
    name = str(pynvml.nvmlDeviceGetName(handle))
    return Fixed(name, capability, _pci(pynvml, handle), limit, _reserved(pynvml, handle), has_mig)


def _fixed_of_slice(pynvml: Any, handle: Any, parent: Fixed) -> Fixed:
    name = str(pynvml.nvmlDeviceGetName(handle))
    reserved = _reserved(pynvml, handle)
    return dataclasses.replace(parent, product=name, power_limit_watts=None, reserved_bytes=reserved, has_mig=False)


def _reserved(pynvml: Any, handle: Any) -> int:
    """Ask for what the first version of NVML's answer counts as used."""
    with unanswered_is_unknown(pynvml):
        return int(getattr(pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2), "reserved", 0))
    return 0


def _pci(pynvml: Any, handle: Any) -> PciLink | None:
    generation: int | None = None
    width: int | None = None
    with unanswered_is_unknown(pynvml):
        generation = pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)
    with unanswered_is_unknown(pynvml):
        width = pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle)
    with unanswered_is_unknown(pynvml):
        return PciLink(str(pynvml.nvmlDeviceGetPciInfo(handle).busId), generation, width)
    return None


def _is_cut(pynvml: Any, handle: Any) -> bool | None:
    with unanswered_is_unknown(pynvml):
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
        return bool(current == _MIG_ENABLED)
    return None


def _slices(pynvml: Any, handle: Any) -> Iterator[Any]:
    """Get the slices that there are; slots may be empty, and a container may be given a few of them only."""
    for slot in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(pynvml.NVMLError_NotFound, pynvml.NVMLError_NoPermission):
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)


@contextlib.contextmanager
def unanswered_is_unknown(pynvml: Any) -> Iterator[None]:
    """Skip a query that one can do without: the GPU, the driver or the caller's rights do not allow it, or it fails.

    Whether the GPU is well is told by those that one can't do without. That it is lost is never passed over.
    """
    try:
        yield
    except pynvml.NVMLError_GpuIsLost:
        raise
    except pynvml.NVMLError:
        pass  # the field stays unknown
