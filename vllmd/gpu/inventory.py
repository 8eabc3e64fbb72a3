"""The GPUs of this host at one moment. Unknown is `None`, never 0."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process with memory on a GPU."""

    pid: int
    """In the host's pid namespace."""
    used_bytes: int | None
    """`None` if the driver does not say, as inside most containers."""
    engine: str = ""
    """The engine of this daemon's that it is of, where that is known."""


@dataclasses.dataclass(frozen=True, slots=True)
class PciLink:
    """How a GPU is plugged into the host."""

    bus_id: str
    """Domain, bus, device and function, such as `00000000:3B:00.0`."""
    generation: int | None = None
    """The fastest that both ends can; when idle the link may run slower."""
    width: int | None = None
    """Lanes, likewise."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as NVML reports it."""

    uuid: str
    """NVML's own, such as `GPU-8f2c…`: the only name that survives a reboot."""
    index: int
    product: str
    total_bytes: int
    used_bytes: int
    """By anybody, the driver's own reservation included."""
    free_bytes: int
    compute_capability: tuple[int, int] | None = None
    utilization: float | None = None
    """Share of the last sample period with a kernel running, 0 to 1."""
    processes: tuple[GpuProcess, ...] = ()
    mig_parent: str | None = None
    """UUID of the GPU that this is a MIG slice of; `None` for a whole one. Slices can't be joined to one engine."""
    pci: PciLink | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    reserved_bytes: int = 0
    """What of the total is the driver's, so that CUDA does not count it; 0 also where NVML does not say."""

    @property
    def whole(self) -> str:
        """UUID of the GPU itself, also for a slice."""
        return self.mig_parent or self.uuid

    @property
    def usable_bytes(self) -> int:
        """All that CUDA calls the GPU's memory: vLLM's shares are of this."""
        return self.total_bytes - self.reserved_bytes

    @property
    def unaccounted_bytes(self) -> int | None:
        """Memory in use that no process is reported to hold; `None` if a process's share is unknown."""
        shares = [process.used_bytes for process in self.processes]
        known = [share for share in shares if share is not None]
        return None if len(known) < len(shares) else self.used_bytes - sum(known)

    def held_by(self, pids: Collection[int], otherwise: int) -> int:
        """Sum up what some processes hold, in bytes; *otherwise* if the driver does not say, or lists none of them."""
        shares = [process.used_bytes for process in self.processes if process.pid in pids]
        known = [share for share in shares if share is not None]
        return sum(known) if known and len(known) == len(shares) else max(0, otherwise)


class Path(enum.StrEnum):
    """What two GPUs have in common on the way between them over PCIe, from near to far; `nvidia-smi topo -m`'s words.

    Source: `nvmlGpuTopologyLevel_t`.
    """

    BOARD = "board"
    """The same board."""
    PIX = "PIX"
    """One PCIe bridge."""
    PXB = "PXB"
    """Several PCIe bridges, without the CPU."""
    PHB = "PHB"
    """The CPU's host bridge."""
    NODE = "NODE"
    """Host bridges of one NUMA node."""
    SYS = "SYS"
    """The link between NUMA nodes."""


@dataclasses.dataclass(frozen=True, slots=True)
class GpuLink:
    """How two GPUs reach each other. Unknown is `None`."""

    first: str
    """UUID, of the GPU with the lower index."""
    second: str
    nvlinks: int | None = None
    """NVLinks between them, or from each to the NVSwitch that they share; 0 if there are none."""
    path: Path | None = None
    peer_access: bool | None = None
    """Whether they can read and write each other's memory (NVML's P2P status for both)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unread:
    """A GPU that NVML counts, and does not answer for."""

    index: int
    error: str
    """What NVML says instead."""
    lost: bool = False
    """NVML says that it is gone, and not only that something went wrong."""
    denied: bool = False
    """The daemon may not ask: nothing is wrong with it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Inventory:
    """All GPUs of the host."""

    gpus: tuple[Gpu, ...] = ()
    driver_version: str = ""
    error: str = ""
    """Why there are none, in a phrase; empty when there are."""
    available: bool = True
    """False if there may well be GPUs, but NVML does not say: then nothing follows from their absence."""
    unread: tuple[Unread, ...] = ()
    """Those that are missing, where NVML says why."""
    hidden: frozenset[str] = frozenset()
    """UUIDs of those that can be read and are not this daemon's."""
    links: tuple[GpuLink, ...] = ()
    """Between every two of the GPUs, as far as NVML answers."""
    cuda_version: str = ""
    """The newest that the driver runs, such as `13.0`; empty if it does not say."""

    def named(self, uuids: frozenset[str]) -> tuple[Gpu, ...]:
        """Pick GPUs by UUID; those that are gone from the bus are missing."""
        return tuple(gpu for gpu in self.gpus if gpu.uuid in uuids)


def fuller(earlier: Sequence[Gpu], now: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Take of each GPU the look that shows more in use, as by the later one some of it may have gone already."""
    known = {gpu.uuid: gpu for gpu in earlier}
    return tuple(max(known.get(gpu.uuid, gpu), gpu, key=lambda look: look.used_bytes) for gpu in now)
