from __future__ import annotations

import pytest

from tests.fakes.fake_gpus import gpu
from vllmd.api import convert_gpus
from vllmd.gpu.inventory import Gpu, GpuLink, GpuProcess, Path, PciLink
from vllmd.gpu.losses import Loss
from vllmd.gpu.quarantine import Quarantine
from vllmd.v1 import gpu_pb2


def test_a_gpu() -> None:
    """Processes are tied to engines by their ids."""
    full = Gpu(
        "MIG-1", 1, "H200", 100, 60, 40, (9, 0), 0.5, (GpuProcess(7, 50), GpuProcess(8, None)),
        "GPU-1", PciLink("00000000:3B:00.0", 5, 16), 118.2, 700.0,
    )  # fmt: skip
    found = convert_gpus.gpu(full, {7: "e-1"}, None)

    assert (found.name, found.index, found.compute_capability, found.utilization) == ("gpus/MIG-1", 1, "9.0", 0.5)
    assert (found.total_bytes, found.used_bytes, found.free_bytes) == (100, 60, 40)
    assert [process.engine for process in found.processes] == ["engines/e-1", ""]
    assert not found.processes[1].HasField("used_bytes")
    assert (found.mig_parent, found.power_watts, found.power_limit_watts) == ("gpus/GPU-1", 118.2, 700.0)
    assert (found.pci.bus_id, found.pci.generation, found.pci.width) == ("00000000:3B:00.0", 5, 16)


def test_what_the_driver_does_not_say_stays_unset() -> None:
    """It is unknown, and not 0."""
    bare = convert_gpus.gpu(gpu(), {}, None)
    half = convert_gpus.gpu(Gpu("GPU-1", 1, "H200", 100, 60, 40, pci=PciLink("00000000:3B:00.0")), {}, None)

    assert (bare.compute_capability, bare.mig_parent) == ("", "")
    for field in ("utilization", "quarantine", "pci", "power_watts", "power_limit_watts"):
        assert not bare.HasField(field)
    assert not half.pci.HasField("generation")
    assert not half.pci.HasField("width")


def test_a_gpu_in_quarantine() -> None:
    """It says why, since when and for whom."""
    found = convert_gpus.gpu(gpu(), {}, Quarantine("GPU-0", "stuck", 1_700_000_000.0, "e-1"))

    assert (found.quarantine.reason, found.quarantine.engine) == ("stuck", "engines/e-1")
    assert found.quarantine.start_time.seconds == 1_700_000_000


@pytest.mark.parametrize(("uuid", "name"), [("GPU-0", "gpus/GPU-0"), ("", "")])
def test_a_lost_gpu(uuid: str, name: str) -> None:
    """One that was never read has no name."""
    found = convert_gpus.lost_gpu(Loss(uuid, 3, "Fake H80", "NVML: GPU is lost", 1_700_000_000.0))

    assert (found.name, found.index, found.product) == (name, 3, "Fake H80")
    assert (found.reason, found.start_time.seconds) == ("NVML: GPU is lost", 1_700_000_000)


def test_a_link() -> None:
    """None at all is not the same as an unknown number."""
    none = convert_gpus.link(GpuLink("GPU-0", "GPU-1", 0, Path.SYS, False))
    unknown = convert_gpus.link(GpuLink("GPU-0", "GPU-1"))

    assert (none.first_gpu, none.second_gpu) == ("gpus/GPU-0", "gpus/GPU-1")
    assert (none.HasField("nvlink_count"), none.HasField("peer_access"), none.peer_access) == (True, True, False)
    assert (unknown.HasField("nvlink_count"), unknown.HasField("peer_access")) == (False, False)
    assert unknown.path == gpu_pb2.GpuLink.PATH_UNSPECIFIED


@pytest.mark.parametrize("path", list(Path))
def test_every_path_has_its_counterpart(path: Path) -> None:
    """The proto names each of them alike."""
    found = convert_gpus.link(GpuLink("GPU-0", "GPU-1", path=path)).path

    assert gpu_pb2.GpuLink.Path.Name(found) == f"PATH_{path.name}"
