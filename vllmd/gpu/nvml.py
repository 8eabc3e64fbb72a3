"""Asks NVML; the only importer of pynvml.

NVML calls block, now and then for seconds while the driver is busy, so callers in the event loop go through
a thread of their own. As there is a snapshot every second, what stays as it is is asked rarely: a name, a place on the
bus, the links.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

from vllmd.gpu import nvml_devices, nvml_links
from vllmd.gpu.inventory import Gpu, GpuLink, Inventory, Unread
from vllmd.gpu.selection import select

_log = logging.getLogger(__name__)


RENEW_SECONDS = 30.0
"""How often NVML is set up anew while a GPU is missing: which there are it finds out only then."""

ASK_AGAIN_SECONDS = 600.0
"""How long an answer counts that is not expected to change: an operator may set another power limit, and NVLinks may
come up after the daemon, with the fabric manager."""

NO_SLICES = "MIG is enabled, and there is no instance that this daemon may use"


@dataclasses.dataclass(slots=True)
class _Known:
    """What need not be asked at every snapshot."""

    since: float
    driver_version: str
    cuda_version: str
    fixed: dict[str, nvml_devices.Fixed] = dataclasses.field(default_factory=dict)
    """By UUID."""
    links: tuple[GpuLink, ...] = ()
    linked: tuple[str, ...] = ()
    """The GPUs that there were when the links were read: they are read again once there are others."""


class Nvml:
    """The NVML library, initialized at the first snapshot and again after it has failed.

    Args:
        visible: the GPUs that count, in the form of `CUDA_VISIBLE_DEVICES`; `None` for all.
        clock: seconds, for when to set it up anew.
    """

    def __init__(self, visible: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._library: Any = None
        self._since = 0.0
        self._known: _Known | None = None
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
            if self._known is None or self._clock() - self._known.since >= ASK_AGAIN_SECONDS:
                self._known = _ask(pynvml, self._clock())
            found = _read(pynvml, self._known)
        except pynvml.NVMLError as error:
            self.close()
            # Where GPUs have been, a driver that is gone says nothing about them.
            absent = not self._seen and isinstance(
                error, pynvml.NVMLError_LibraryNotFound | pynvml.NVMLError_DriverNotLoaded
            )
            return Inventory(error=_explain(pynvml, error), available=absent)
        present = {gpu.uuid: gpu for gpu in found.gpus}
        self._seen = present | _still_expected(self._seen, present)
        missing = found.unread or self._seen.keys() - present.keys()
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
        links = tuple(link for link in found.links if link.first in uuids and link.second in uuids)
        return dataclasses.replace(found, gpus=gpus, error=error, unread=unread, hidden=others, links=links)

    def _told(self, found: Inventory) -> Inventory:
        """Log what can't be read, once: this is asked every second."""
        for one in found.unread:
            if one not in self._warned:
                _log.warning("GPU %d is left out: NVML says %s", one.index, one.error)
        self._warned = frozenset(found.unread)
        return found

    def close(self) -> None:
        """Let go of the driver, so that an operator can reset a GPU."""
        self._known = None
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


def _still_expected(seen: dict[str, Gpu], present: dict[str, Gpu]) -> dict[str, Gpu]:
    """Forget a GPU that was cut into slices since, and slices that were made anew."""
    wholes = {gpu.whole for gpu in present.values()}
    return {uuid: gpu for uuid, gpu in seen.items() if uuid in present or gpu.whole not in wholes}


def _ask(pynvml: Any, now: float) -> _Known:
    cuda_version = ""
    with nvml_devices.unanswered_is_unknown(pynvml):
        version = pynvml.nvmlSystemGetCudaDriverVersion()
        cuda_version = f"{version // 1000}.{version % 1000 // 10}"
    return _Known(now, str(pynvml.nvmlSystemGetDriverVersion()), cuda_version)


def _read(pynvml: Any, known: _Known) -> Inventory:
    gpus: list[Gpu] = []
    unread = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            found = nvml_devices.read(pynvml, index, known.fixed)
        except pynvml.NVMLError as error:
            lost, denied = (
                isinstance(error, kind) for kind in (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_NoPermission)
            )
            unread.append(Unread(index, str(error), lost, denied))
        else:
            gpus += found
            unread += [] if found else [Unread(index, NO_SLICES, denied=True)]
    missing = "" if gpus else "NVML can read no GPU" if unread else "NVML finds no GPU"
    # Where none answers and none is said to be lost, it is NVML that fails: a container that lost its devices, say.
    available = bool(gpus) or not unread or any(one.lost for one in unread)
    uuids = tuple(gpu.uuid for gpu in gpus)
    if uuids != known.linked:
        known.links, known.linked = nvml_links.read(pynvml, gpus), uuids
    return Inventory(
        tuple(gpus),
        known.driver_version,
        missing,
        available,
        tuple(unread),
        links=known.links,
        cuda_version=known.cuda_version,
    )
