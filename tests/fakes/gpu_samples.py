"""What a daemon would say of the GPUs of some hosts, and how they are connected."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tests.fakes.samples import GIB, ago
from vllmd.v1.gpu_pb2 import Gpu, GpuLink, GpuQuarantine, LostGpu, PciLink
from vllmd.v1.host_service_pb2 import ListGpusResponse


def name(index: int) -> str:
    """The name of a GPU."""
    return f"gpus/GPU-{index:08}-0000-0000-0000-000000000000"


def links(count: int, link: Callable[[int, int], GpuLink]) -> list[GpuLink]:
    """The links between all pairs."""
    found = []
    for first, second in itertools.combinations(range(count), 2):
        found.append(GpuLink(first_gpu=name(first), second_gpu=name(second)))
        found[-1].MergeFrom(link(first, second))
    return found


def eight_gpus() -> ListGpusResponse:
    """A host with an NVSwitch."""
    gpus = [
        Gpu(
            name=name(index),
            index=index,
            product="NVIDIA H100 80GB HBM3",
            total_bytes=80 * GIB,
            used_bytes=72 * GIB + index * GIB // 2,
            free_bytes=8 * GIB - index * GIB // 2,
            compute_capability="9.0",
            utilization=0.97,
            pci=PciLink(bus_id=f"00000000:{index:02}:00.0", generation=5, width=16),
            power_watts=692.3,
            power_limit_watts=700.0,
        )
        for index in range(8)
    ]
    joined = links(8, lambda *_: GpuLink(nvlink_count=18, path=GpuLink.PATH_SYS, peer_access=True))
    return ListGpusResponse(gpus=gpus, links=joined, driver_version="580.65.06", cuda_version="13.0")


def four_gpus() -> ListGpusResponse:
    """A host of which little is known: two NUMA nodes, a pair with a bridge, and one without peer access."""

    def link(first: int, second: int) -> GpuLink:
        match first, second:
            case 0, 1:
                return GpuLink(nvlink_count=4, path=GpuLink.PATH_PHB, peer_access=True)
            case 2, 3:
                return GpuLink(nvlink_count=0, path=GpuLink.PATH_NODE, peer_access=False)
            case 1, 3:
                return GpuLink()
            case _:
                return GpuLink(nvlink_count=0, path=GpuLink.PATH_SYS, peer_access=True)

    gpus = [
        Gpu(name=name(index), index=index, product="NVIDIA RTX A6000", total_bytes=48 * GIB, free_bytes=48 * GIB)
        for index in range(4)
    ]
    gpus[2].quarantine.CopyFrom(GpuQuarantine(reason="it holds 3 GiB of nobody", start_time=ago(7_200)))
    gpus[3].power_watts = 41.0
    gpus[3].pci.bus_id = "00000000:CA:00.0"
    lost = LostGpu(
        name=name(4), index=4, product="NVIDIA RTX A6000", reason="NVML: GPU is lost", start_time=ago(10_800)
    )
    return ListGpusResponse(gpus=gpus, links=links(4, link), lost_gpus=[lost], driver_version="550.144.03")


def slices() -> ListGpusResponse:
    """A GPU that is cut into MIG slices, and one that is not."""
    found = [
        Gpu(
            name=f"gpus/MIG-{slot}",
            product=f"NVIDIA H100 80GB HBM3 MIG {kind}",
            total_bytes=size * GIB,
            mig_parent=name(0),
            compute_capability="9.0",
        )
        for slot, (kind, size) in enumerate((("3g.40gb", 40), ("2g.20gb", 20)))
    ]
    whole = Gpu(name=name(1), index=1, product="NVIDIA H100 80GB HBM3", total_bytes=80 * GIB)
    return ListGpusResponse(gpus=[*found, whole], driver_version="570.86.15", cuda_version="12.8")
