"""Asks NVML; the only importer of pynvml.

NVML calls block, now and then for seconds while the driver is busy, so callers in the event loop go through
a thread of their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

from vllmd.gpu.inventory import Gpu, GpuProcess, Inventory
from vllmd.gpu.selection import select

_log = logging.getLogger(__name__)


class Nvml:
    """The NVML library, initialized at the first snapshot and again after it has failed.

    Args:
        visible: the GPUs that count, in the form of `CUDA_VISIBLE_DEVICES`; `None` for all.
    """

    def __init__(self, visible: str | None = None) -> None:
        self._library: Any = None
        self._visible = visible

    def snapshot(self) -> Inventory:
        """Read all GPUs. A host without NVIDIA's driver has none, and the inventory says why."""
        import pynvml

        try:
            if self._library is None:
                pynvml.nvmlInit()
                self._library = pynvml
            return self._chosen(_read(pynvml))
        except pynvml.NVMLError as error:
            self.close()
            absent = isinstance(error, pynvml.NVMLError_LibraryNotFound | pynvml.NVMLError_DriverNotLoaded)
            return Inventory(error=_explain(pynvml, error), available=absent)

    def _chosen(self, found: Inventory) -> Inventory:
        """Leave out the GPUs that are not this daemon's."""
        chosen = select(found.gpus, self._visible)
        hidden = f"CUDA_VISIBLE_DEVICES={self._visible} leaves none of {len(found.gpus)} GPUs"
        error = hidden if found.gpus and not chosen else found.error
        return dataclasses.replace(found, gpus=chosen, error=error)

    def close(self) -> None:
        """Let go of the driver, so that an operator can reset a GPU."""
        if self._library is not None:
            library, self._library = self._library, None
            with contextlib.suppress(library.NVMLError):  # it may be the driver's death that brought us here
                library.nvmlShutdown()


def _explain(pynvml: Any, error: Exception) -> str:
    if isinstance(error, pynvml.NVMLError_LibraryNotFound):
        return "NVML library not found: no NVIDIA driver is installed"
    if isinstance(error, pynvml.NVMLError_DriverNotLoaded):
        return "the NVIDIA driver is not loaded"
    return f"NVML: {error}"


def _read(pynvml: Any) -> Inventory:
    gpus = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_read_gpu(pynvml, index))
        except pynvml.NVMLError as error:
            _log.warning("GPU %d is left out: NVML says %s", index, error)
    missing = "" if gpus else "NVML finds no GPU"
    return Inventory(tuple(gpus), str(pynvml.nvmlSystemGetDriverVersion()), missing)


def _read_gpu(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    capability: tuple[int, int] | None = None
    utilization: float | None = None
    with _unsupported_is_unknown(pynvml):
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = (major, minor)
    with _unsupported_is_unknown(pynvml):
        utilization = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    return Gpu(
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        index=index,
        product=str(pynvml.nvmlDeviceGetName(handle)),
        total_bytes=memory.total,
        used_bytes=memory.used,
        free_bytes=memory.free,
        compute_capability=capability,
        utilization=utilization,
        processes=_read_processes(pynvml, handle),
    )


def _read_processes(pynvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    found = []
    with _unsupported_is_unknown(pynvml):
        found = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return tuple(GpuProcess(entry.pid, entry.usedGpuMemory) for entry in found)


@contextlib.contextmanager
def _unsupported_is_unknown(pynvml: Any) -> Iterator[None]:
    """Skip a query that this GPU or this caller is not given an answer to."""
    unanswered = (
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_NoPermission,
        pynvml.NVMLError_FunctionNotFound,
    )
    with contextlib.suppress(*unanswered):
        yield
