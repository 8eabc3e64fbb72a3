"""GPUs whose memory is held by processes, and is back when these are gone: not before, and not by anything else."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.processes import lives
from vllmd.gpu.inventory import Gpu, GpuProcess, Inventory
from vllmd.worker.processes import Identity


@dataclasses.dataclass
class Hold:
    """Memory that one process has on one GPU."""

    uuid: str
    holder: Identity
    size: int


class HeldGpus:
    """A `Source` of snapshots of two GPUs, GPU-0 and GPU-1."""

    def __init__(self) -> None:
        self.tells_shares = True
        """False: as inside most containers, where the driver says who but not how much."""
        self.missing: set[str] = set()
        """GPUs that have fallen off the bus."""
        self._holds: list[Hold] = []
        self.answering = threading.Event()
        """Cleared while the driver hangs."""
        self.answering.set()
        self.snapshots = 0
        """How many have been taken."""
        self._events: dict[int, Callable[[], None]] = {}
        self.driver_bytes = GIB
        """What each GPU has in use that no process is said to have."""
        self._lock = threading.Lock()

    def hold(self, uuid: str, holder: Identity, size: int = GIB) -> Hold:
        """Let a process take memory; a test may change how much it is."""
        hold = Hold(uuid, holder, size)
        with self._lock:
            self._holds.append(hold)
        return hold

    def on_snapshot(self, count: int, event: Callable[[], None]) -> None:
        """Let something happen just before the snapshot that is so many from now."""
        self._events[self.snapshots + count] = event

    def snapshot(self) -> Inventory:
        assert self.answering.wait(20)
        self._events.pop(self.snapshots + 1, lambda: None)()
        with self._lock:
            present = [uuid for uuid in ("GPU-0", "GPU-1") if uuid not in self.missing]
            inventory = Inventory(tuple(map(self._now, present)), "570.00")
            self.snapshots += 1
        return inventory

    def close(self) -> None:
        """Nothing to let go of."""

    def _now(self, uuid: str) -> Gpu:
        holds = [hold for hold in self._holds if hold.uuid == uuid and lives(hold.holder)]
        used = self.driver_bytes + sum(hold.size for hold in holds)
        now = gpu(int(uuid[-1]), used=used, uuid=uuid)
        shares = tuple(GpuProcess(hold.holder.pid, hold.size if self.tells_shares else None) for hold in holds)
        return dataclasses.replace(now, processes=shares)
