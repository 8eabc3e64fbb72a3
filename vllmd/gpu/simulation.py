"""GPUs that are not there: what processes hold of them is what they say, for as long as they live.

With the fake engine they make a host for trying plans and policies on hardware that one does not have. The one rule:
the memory of a process is gone when the process is gone, and only then. The exceptions are `Faults`, which can be set
from outside at any time.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import msgspec

from vllmd.gpu.inventory import Gpu, GpuLink, GpuProcess, Inventory
from vllmd.worker.processes import Identity
from vllmd.worker.simulation import CLAIMS, FAULTS, GHOSTS, Memory, Shares, held, lives, name_of, publish, write

DRIVER_VERSION = "simulated"


class GpuFaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to go wrong on a GPU."""

    linger_seconds: Annotated[float, msgspec.Meta(ge=0)] | msgspec.UnsetType | None = msgspec.UNSET
    """For how long the memory of a process that is found dead from now on stays in use, by nobody; null for ever, which
    is until this fault is lifted. Left out: not at all. Death counts from the first snapshot that finds it."""
    keep_pid_listed: bool = False
    """While such memory stays, the dead process is still listed with it, as one stuck in the driver is."""
    hidden_shares: bool = False
    """Processes are listed without what they hold, as inside most containers."""

    def keep(self, seconds: float) -> bool:
        """Tell whether memory is still in use so long after the death of its process."""
        if isinstance(self.linger_seconds, msgspec.UnsetType):
            return False
        return self.linger_seconds is None or seconds < self.linger_seconds


class Faults(GpuFaults, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to go wrong: the content of `faults.json`, read at each snapshot. No file, or an empty one: nothing.

    What is set of `GpuFaults` here holds on every GPU that `gpus` does not name.
    """

    nvml_error: str = ""
    """NVML fails, and this is what it says; empty if it does not."""
    lost: frozenset[str] = frozenset()
    """UUIDs of the GPUs that have fallen off the bus."""
    gpus: dict[str, GpuFaults] = msgspec.field(default_factory=dict)
    """For single GPUs, by UUID, in place of what is set for all."""

    def of(self, uuid: str) -> GpuFaults:
        """Get what is to go wrong on one GPU."""
        return self.gpus.get(uuid, self)


def inject(directory: pathlib.Path, faults: Faults) -> None:
    """Set faults, in place of those that were set."""
    write(directory / FAULTS, msgspec.json.encode(faults))


def read_faults(directory: pathlib.Path) -> Faults:
    """Read which faults are set.

    Raises:
        ValueError: the file is nonsense.
    """
    try:
        content = (directory / FAULTS).read_bytes()
    except FileNotFoundError:
        return Faults()
    return msgspec.json.decode(content, type=Faults) if content.strip() else Faults()


class SimulatedGpus:
    """A `monitor.Source` of GPUs that are not there.

    Args:
        gpus: what there is, with nobody on it; what is in use all the same is the driver's.
        directory: where processes say what they hold (`worker.simulation`); claims that an earlier daemon left
            there hold on.
        clock: seconds, for memory that lingers.
        links: how they are connected.

    Raises:
        OSError: the directory can't be made.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        directory: pathlib.Path,
        clock: Callable[[], float] = time.monotonic,
        *,
        links: Sequence[GpuLink] = (),
    ) -> None:
        self._gpus = tuple(gpus)
        self._links = tuple(links)
        self._clock = clock
        self._died: dict[Identity, float] = {}
        self.directory = directory
        publish(directory, {gpu.uuid: Memory(gpu.total_bytes, gpu.used_bytes) for gpu in gpus})

    def snapshot(self) -> Inventory:
        """Read what processes hold now; what the dead held goes, unless a fault keeps it."""
        try:
            faults = read_faults(self.directory)
        except ValueError as error:
            return Inventory(error=f"{FAULTS} of the simulation: {error}", available=False)
        claims = held(self.directory / CLAIMS)
        living = {identity: shares for identity, shares in claims.items() if lives(identity)}
        dead = {identity: shares for identity, shares in claims.items() if identity not in living}
        ghosts = self._bury(dead, faults)
        if faults.nvml_error:
            return Inventory(error=f"NVML: {faults.nvml_error}", available=False)
        present = (gpu for gpu in self._gpus if gpu.uuid not in faults.lost)
        gpus = tuple(occupied(gpu, living, ghosts, faults.of(gpu.uuid)) for gpu in present)
        links = tuple(link for link in self._links if not {link.first, link.second} & faults.lost)
        return Inventory(gpus, DRIVER_VERSION, "" if gpus else "NVML finds no GPU", links=links)

    def close(self) -> None:
        """Nothing to let go of: the directory may have to outlive the daemon."""

    def remove(self) -> None:
        """Remove the directory, unless there is still memory in use by what it says."""
        used = any(lives(identity) for identity in held(self.directory / CLAIMS)) or held(self.directory / GHOSTS)
        if not used:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _bury(self, dead: dict[Identity, Shares], faults: Faults) -> dict[Identity, Shares]:
        """Turn claims of the dead into ghosts where a fault keeps them, and let go of ghosts whose time is over."""
        now = self._clock()
        ghosts = held(self.directory / GHOSTS)
        kept = {}
        for identity, shares in (ghosts | dead).items():
            died = self._died.setdefault(identity, now)
            kept[identity] = {uuid: size for uuid, size in shares.items() if faults.of(uuid).keep(now - died)}
            ghost = self.directory / GHOSTS / name_of(identity)
            if not kept[identity]:
                ghost.unlink(missing_ok=True)
            elif kept[identity] != ghosts.get(identity):
                write(ghost, msgspec.json.encode(kept[identity]))
            (self.directory / CLAIMS / name_of(identity)).unlink(missing_ok=True)
        self._died = {identity: died for identity, died in self._died.items() if kept.get(identity)}
        return {identity: shares for identity, shares in kept.items() if shares}


def occupied(gpu: Gpu, living: Mapping[Identity, Shares], ghosts: Mapping[Identity, Shares], faults: GpuFaults) -> Gpu:
    """Put processes and ghosts on a GPU. Together they never hold more than it has: who comes last is cut short."""
    free = gpu.free_bytes
    processes = []
    for identity, shares in (*living.items(), *ghosts.items()):
        if gpu.uuid in shares:
            size = min(shares[gpu.uuid], free)
            free -= size
            if identity in living or faults.keep_pid_listed:
                processes.append(GpuProcess(identity.pid, None if faults.hidden_shares else size))
    return dataclasses.replace(gpu, used_bytes=gpu.total_bytes - free, free_bytes=free, processes=tuple(processes))
