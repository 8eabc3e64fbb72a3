"""Asks NVML; the only importer of pynvml.

NVML calls block, now and then for seconds while the driver is busy, so callers in the event loop go through
a thread of their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from vllmd.gpu.inventory import Gpu, GpuProcess, Inventory, Unread
from vllmd.gpu.selection import select

_log = logging.getLogger(__name__)


RENEW_SECONDS = 30.0
"""How often NVML is set up anew while a GPU is missing: which there are it finds out only then."""


class Nvml:
    """The NVML library, initialized at the first snapshot and again after it has failed.

    Args:
        visible: the GPUs that count, in the form of `CUDA_VISIBLE_DEVICES`; `None` for all.
        clock: seconds, for when to set it up anew.
    """

    def __init__(self, visible: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._library: Any = None
        self._since = 0.0
        self._visible = visible
        self._clock = clock
        self._seen: dict[str, Gpu] = {}
        """Each GPU as it was when it was first read, by UUID: numbers may move up once one is gone."""
        self._warned: frozenset[Unread] = frozenset()

    def snapshot(self) -> Inventory:
        """Read all GPUs. A host without NVIDIA's driver has none, and the inventory says why."""
        import pynvml

        try:
            if self._library is None:
                pynvml.nvmlInit()
                self._library, self._since = pynvml, self._clock()
            found = _read(pynvml)
        except pynvml.NVMLError as error:
            self.close()
            # Where GPUs have been, a driver that is gone says nothing about them.
            absent = not self._seen and isinstance(
                error, pynvml.NVMLError_LibraryNotFound | pynvml.NVMLError_DriverNotLoaded
            )
            return Inventory(error=_explain(pynvml, error), available=absent)
        self._seen = {gpu.uuid: gpu for gpu in found.gpus} | self._seen
        missing = found.unread or self._seen.keys() - {gpu.uuid for gpu in found.gpus}
        if missing and self._clock() - self._since >= RENEW_SECONDS:
            self.close()
        return self._told(self._chosen(found))

    def _chosen(self, found: Inventory) -> Inventory:
        """Leave out the GPUs that are not this daemon's.

        One that can't be read keeps its place in the list that names them, or else it would end the list.
        """
        taken = {gpu.index for gpu in self._seen.values()}
        nameless = (Gpu("", one.index, "", 0, 0, 0) for one in found.unread if one.index not in taken)
        chosen = select((*self._seen.values(), *nameless), self._visible)
        uuids, indexes = {gpu.uuid for gpu in chosen}, {gpu.index for gpu in chosen}
        gpus = tuple(gpu for gpu in found.gpus if gpu.uuid in uuids)
        hidden = f"CUDA_VISIBLE_DEVICES={self._visible} leaves none of {len(found.gpus)} GPUs"
        error = hidden if found.gpus and not chosen else found.error
        unread = tuple(one for one in found.unread if one.index in indexes)
        others = frozenset(gpu.uuid for gpu in found.gpus if gpu not in gpus)
        return dataclasses.replace(found, gpus=gpus, error=error, unread=unread, hidden=others)

    def _told(self, found: Inventory) -> Inventory:
        """Log what can't be read, once: this is asked every second."""
        for one in found.unread:
            if one not in self._warned:
                _log.warning("GPU %d is left out: NVML says %s", one.index, one.error)
        self._warned = frozenset(found.unread)
        return found

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
    gpus, unread = [], []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_read_gpu(pynvml, index))
        except pynvml.NVMLError as error:
            lost, denied = (
                isinstance(error, kind) for kind in (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_NoPermission)
            )
            unread.append(Unread(index, str(error), lost, denied))
    missing = "" if gpus else "NVML can read no GPU" if unread else "NVML finds no GPU"
    # Where none answers and none is said to be lost, it is NVML that fails: a container that lost its devices, say.
    available = bool(gpus) or not unread or any(one.lost for one in unread)
    driver_version = str(pynvml.nvmlSystemGetDriverVersion())
    return Inventory(tuple(gpus), driver_version, missing, available, tuple(unread))


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
