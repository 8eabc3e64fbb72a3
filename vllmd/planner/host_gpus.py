"""The GPUs of a host in the words of a script: how many, which, how much memory, and whether NVLink joins them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from vllmd.gpu.inventory import Gpu, Inventory
from vllmd.planner.choice import gib
from vllmd.planner.topology import Topology

_GIB = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class HostGpus:
    """The GPUs that there are to plan with, and what is free on them."""

    inventory: Inventory

    @property
    def count(self) -> int:
        """How many there are; MIG slices count as one each."""
        return len(self.inventory.gpus)

    @property
    def products(self) -> tuple[str, ...]:
        """What each is, by NVML's name."""
        return tuple(gpu.product for gpu in self.inventory.gpus)

    @property
    def vram_per_gpu_gib(self) -> float:
        """What each has; of different ones, the smallest. 0 if there are none."""
        return _in_gib(min((gpu.total_bytes for gpu in self.inventory.gpus), default=0))

    @property
    def total_vram_gib(self) -> float:
        """What they have together."""
        return _in_gib(sum(gpu.total_bytes for gpu in self.inventory.gpus))

    @property
    def available_vram_gib(self) -> float:
        """What is free of it now."""
        return _in_gib(sum(gpu.free_bytes for gpu in self.inventory.gpus))

    @property
    def has_nvlink(self) -> bool:
        """Whether any two of them reach each other over NVLink."""
        return any(link.nvlinks for link in self.inventory.links)

    def __bool__(self) -> bool:
        return bool(self.inventory.gpus)

    def __str__(self) -> str:
        return ", ".join(self._kinds()) or f"no GPU ({self.inventory.error or 'none is named'})"

    def summary(self) -> str:
        """Say all of it, a line for each."""
        lines = [("GPUs", str(self))]
        if self:
            share = f"{gib(self.available_vram_gib * _GIB)} of {gib(self.total_vram_gib * _GIB)}"
            lines += [("free VRAM", share), ("NVLink", "yes" if self.has_nvlink else "no")]
        versions = (("driver", self.inventory.driver_version), ("CUDA", self.inventory.cuda_version))
        lines += [(name, version) for name, version in versions if version]
        lines += [(f"GPU {one.index}", f"can't be read: {one.error}") for one in self.inventory.unread]
        return "\n".join(f"{name + ':':<11}{text}" for name, text in lines)

    def print_summary(self) -> None:
        """Print what `summary` says."""
        print(self.summary())  # noqa: T201 - for scripts, which ask for it

    def _kinds(self) -> Iterator[str]:
        kinds: dict[tuple[str, int], list[Gpu]] = {}
        for gpu in self.inventory.gpus:
            kinds.setdefault((gpu.product, gpu.total_bytes), []).append(gpu)
        topology = Topology(self.inventory.links)
        for (product, size), gpus in kinds.items():
            linked = any(topology.joined(one, other) for one in gpus for other in gpus if one is not other)
            each = " each" if len(gpus) > 1 else ""
            yield f"{len(gpus)}x {product} ({gib(size)}{each}{', NVLink' if linked else ''})"


def _in_gib(size: int) -> float:
    return round(size / _GIB, 1)
