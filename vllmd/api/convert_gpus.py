"""From what is known of the GPUs to the protos, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from vllmd.api import convert
from vllmd.gpu.inventory import Gpu, GpuLink, PciLink
from vllmd.gpu.losses import Loss
from vllmd.gpu.quarantine import Quarantine
from vllmd.v1 import gpu_pb2


def gpu(value: Gpu, owners: Mapping[int, str], quarantine: Quarantine | None) -> gpu_pb2.Gpu:
    """Convert a GPU; *owners* maps process ids to engine ids."""
    capability = value.compute_capability
    return gpu_pb2.Gpu(
        name=_name(value.uuid),
        index=value.index,
        product=value.product,
        total_bytes=value.total_bytes,
        used_bytes=value.used_bytes,
        free_bytes=value.free_bytes,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else "",
        utilization=value.utilization,
        processes=[
            gpu_pb2.GpuProcess(
                pid=process.pid, used_bytes=process.used_bytes, engine=_engine(owners.get(process.pid, ""))
            )
            for process in value.processes
        ],
        quarantine=_quarantine(quarantine) if quarantine is not None else None,
        mig_parent=_name(value.mig_parent or ""),
        pci=_pci(value.pci) if value.pci is not None else None,
        power_watts=value.power_watts,
        power_limit_watts=value.power_limit_watts,
    )


def lost_gpu(value: Loss) -> gpu_pb2.LostGpu:
    """Convert a GPU that is lost."""
    return gpu_pb2.LostGpu(
        name=_name(value.uuid),
        index=value.index,
        product=value.product,
        reason=value.reason,
        start_time=convert.timestamp(value.since),
    )


def link(value: GpuLink) -> gpu_pb2.GpuLink:
    """Convert how two GPUs are connected."""
    path = f"PATH_{value.path.name}" if value.path is not None else "PATH_UNSPECIFIED"
    return gpu_pb2.GpuLink(
        first_gpu=_name(value.first),
        second_gpu=_name(value.second),
        nvlink_count=value.nvlinks,
        path=gpu_pb2.GpuLink.Path.Value(path),
        peer_access=value.peer_access,
    )


def _quarantine(value: Quarantine) -> gpu_pb2.GpuQuarantine:
    return gpu_pb2.GpuQuarantine(
        reason=value.reason, start_time=convert.timestamp(value.since), engine=_engine(value.engine)
    )


def _pci(value: PciLink) -> gpu_pb2.PciLink:
    return gpu_pb2.PciLink(bus_id=value.bus_id, generation=value.generation, width=value.width)


def _name(uuid: str) -> str:
    return f"gpus/{uuid}" if uuid else ""


def _engine(engine_id: str) -> str:
    return f"engines/{engine_id}" if engine_id else ""
