"""GPUs that are what a test says, in the place of NVML."""

from __future__ import annotations

import dataclasses
import threading

from vllmd.gpu.inventory import Gpu, GpuLink, GpuProcess, Inventory, Unread

GIB = 1 << 30
FOREIGNER = 1
"""The process id of whoever else is on a GPU."""


def gpu(index: int = 0, total: int = 80 * GIB, used: int = 0, uuid: str = "") -> Gpu:
    """A GPU on which nobody but the driver has *used* bytes."""
    return Gpu(uuid or f"GPU-{index}", index, "Fake H80", total, used, total - used)


class FakeGpus:
    """A `Source` of snapshots; a test may change the GPUs, or hold a snapshot back."""

    def __init__(self, *gpus: Gpu) -> None:
        self.closed = False
        self.threads: set[int] = set()
        """Of the threads that asked."""
        self.asked = threading.Semaphore(0)
        """Goes up with every snapshot, once its content is settled."""
        self.answering = threading.Event()
        """Cleared to hold snapshots back after their content is settled."""
        self.answering.set()
        self.broken: Exception | None = None
        """What a snapshot raises instead of answering."""
        self.silence = ""
        """Why NVML does not say which GPUs there are; empty when it does."""
        self.links: tuple[GpuLink, ...] = ()
        self._lost: dict[str, Unread] = {}
        self._gpus = {gpu.uuid: gpu for gpu in gpus}
        self._lock = threading.Lock()

    def snapshot(self) -> Inventory:
        self.threads.add(threading.get_ident())
        with self._lock:
            gpus = tuple(gpu for gpu in self._gpus.values() if gpu.uuid not in self._lost)
            unread = tuple(self._lost.values())
        self.asked.release()
        assert self.answering.wait(20)
        if self.broken is not None:
            raise self.broken
        if self.silence:
            return Inventory(error=self.silence, available=False)
        error = "" if gpus else "no GPU in this test"
        return Inventory(gpus, "570.00", error, unread=unread, links=self.links, cuda_version="12.8")

    def close(self) -> None:
        self.closed = True

    def set(self, gpu: Gpu) -> None:
        """Let a GPU be as given from now on."""
        with self._lock:
            self._gpus[gpu.uuid] = gpu
            self._lost.pop(gpu.uuid, None)

    def lose(self, uuid: str) -> None:
        """Let a GPU fall off the bus, and the driver say so, until it is set again."""
        with self._lock:
            self._lost[uuid] = Unread(self._gpus[uuid].index, "GPU is lost", lost=True)

    def occupy(self, uuid: str, size: int, pid: int = FOREIGNER) -> None:
        """Let a process take memory, and the driver say so."""
        old = self._gpus[uuid]
        processes = (*old.processes, GpuProcess(pid, size))
        used, free = old.used_bytes + size, old.free_bytes - size
        self.set(dataclasses.replace(old, used_bytes=used, free_bytes=free, processes=processes))

    def leak(self, uuid: str, size: int) -> None:
        """Let memory be taken that the driver attributes to nobody."""
        old = self._gpus[uuid]
        self.set(dataclasses.replace(old, used_bytes=old.used_bytes + size, free_bytes=old.free_bytes - size))
