from __future__ import annotations

import pytest

from tests.fakes.fake_pynvml import SNAPSHOTS, FakePynvml, NVMLError_Unknown
from tests.gpu.conftest import Play
from vllmd.gpu import nvml_devices
from vllmd.gpu.inventory import Gpu, GpuProcess, PciLink, Unread
from vllmd.gpu.nvml import NO_SLICES, RENEW_SECONDS, Nvml

MIB = 1 << 20
WHOLE = "GPU-00000000-0000-0000-0000-000000000000"


def calls_of_a_snapshot(driver: FakePynvml, nvml: Nvml) -> list[str]:
    """Take one, and say what it asked of the GPUs."""
    driver.calls.clear()
    nvml.snapshot()
    return sorted(name.removeprefix("nvmlDeviceGet") for name in driver.calls if name.startswith("nvmlDeviceGet"))


def test_all_that_nvml_says_of_a_gpu(play: Play) -> None:
    """Milliwatts become watts, and the percentage a fraction."""
    play("rtx3090-x2-nvlink")

    assert Nvml().snapshot().gpus[0] == Gpu(
        uuid=WHOLE,
        index=0,
        product="NVIDIA GeForce RTX 3090",
        total_bytes=24576 * MIB,
        used_bytes=1024 * MIB,
        free_bytes=23552 * MIB,
        compute_capability=(8, 6),
        utilization=0.63,
        processes=(GpuProcess(4711, 700 * MIB),),
        pci=PciLink("00000000:01:00.0", 4, 16),
        power_watts=118.2,
        power_limit_watts=350.0,
    )


def test_what_the_driver_does_not_say_is_unknown(play: Play) -> None:
    """And never 0; what it does say is there all the same."""
    play("vgpu-x2")
    found = Nvml().snapshot()
    gpu = found.gpus[0]

    assert (gpu.compute_capability, gpu.utilization, gpu.pci, gpu.power_watts, gpu.power_limit_watts) == (None,) * 5
    assert (gpu.product, gpu.total_bytes, found.cuda_version) == ("NVIDIA A10-24Q", 24512 * MIB, "")


def test_a_place_on_the_bus_without_the_rest(play: Play) -> None:
    """Each answer stands alone."""
    driver = play("rtx3090-x2")
    del driver.answers["nvmlDeviceGetMaxPcieLinkGeneration"]

    assert Nvml().snapshot().gpus[1].pci == PciLink("00000000:2B:00.0", None, 16)


def test_a_query_that_fails_is_not_a_gpu_that_fails(play: Play) -> None:
    """Laptops answer the power with an unknown error, and are well."""
    driver = play("rtx3090-x2")
    driver.errors["nvmlDeviceGetPowerUsage", 0] = NVMLError_Unknown()
    found = Nvml().snapshot()

    assert [gpu.power_watts for gpu in found.gpus] == [None, 21.4]
    assert found.unread == ()


def test_a_snapshot_asks_what_may_have_changed(play: Play) -> None:
    """There is one every second; MIG is asked about where there can be any."""
    second = ["ComputeRunningProcesses", "HandleByIndex", "MemoryInfo", "PowerUsage", "UUID", "UtilizationRates"]
    small, large = Nvml(), Nvml()
    driver = play("rtx3090-x2")
    small.snapshot()
    of_two = calls_of_a_snapshot(driver, small)
    driver = play("h100-sxm-x8")
    large.snapshot()
    of_eight = calls_of_a_snapshot(driver, large)

    assert of_two == sorted(["Count", *second * 2])
    assert of_eight == sorted(["Count", *[*second, "MigMode"] * 8])


def test_slices_take_the_place_of_their_gpu(play: Play) -> None:
    """With its number, its place on the bus, and memory and processes of their own."""
    play("h100-x2-mig")
    slices = Nvml().snapshot().gpus[:-1]

    assert [one.product.removeprefix("NVIDIA H100 80GB HBM3 ") for one in slices] == [
        "MIG 3g.40gb",
        "MIG 2g.20gb",
        "MIG 1g.10gb",
    ]
    assert {(one.index, one.mig_parent, one.pci) for one in slices} == {(0, WHOLE, PciLink("00000000:18:00.0", 5, 16))}
    assert [one.total_bytes // MIB for one in slices] == [40448, 20096, 9984]
    assert [one.processes for one in slices] == [(GpuProcess(4711, 12300 * MIB),), (), ()]
    assert all(one.uuid.startswith("MIG-") and one.compute_capability == (9, 0) for one in slices)


def test_what_is_measured_of_whole_gpus_is_not_the_slices(play: Play) -> None:
    """What the GPU draws, no slice does; the GPU beside it, which is not cut up, has it."""
    play("h100-x2-mig")
    *slices, whole = Nvml().snapshot().gpus

    assert {(one.utilization, one.power_watts, one.power_limit_watts) for one in slices} == {(None, None, None)}
    assert (whole.mig_parent, whole.utilization, whole.power_watts, whole.power_limit_watts) == (None, 0.0, 71.0, 700.0)


def test_a_gpu_that_is_to_be_cut_and_is_not_yet(play: Play) -> None:
    """Nothing can run on it, and nothing is wrong with it."""
    driver = play("h100-x2-mig")
    nvml = Nvml()
    nvml.snapshot()
    driver.answers["nvmlDeviceGetUUID"] = {
        key: uuid for key, uuid in driver.answers["nvmlDeviceGetUUID"].items() if "." not in key
    }
    found = nvml.snapshot()

    assert [gpu.index for gpu in found.gpus] == [1]
    assert found.unread == (Unread(0, NO_SLICES, denied=True),)


def test_a_gpu_is_cut_while_the_daemon_runs(play: Play) -> None:
    """It is noticed at once, as nothing could be started on the whole any more, and the whole is not waited for."""
    driver = play("h100-x2-mig")
    driver.answers["nvmlDeviceGetMigMode"]["0"] = [0, 1]
    now = [0.0]
    nvml = Nvml(clock=lambda: now[0])
    before = nvml.snapshot()
    driver.answers["nvmlDeviceGetMigMode"]["0"] = [1, 1]
    now[0] = RENEW_SECONDS
    after = nvml.snapshot()
    driver.calls.clear()
    nvml.snapshot()

    assert [gpu.mig_parent for gpu in before.gpus] == [None, None]
    assert [gpu.mig_parent for gpu in after.gpus] == [WHOLE, WHOLE, WHOLE, None]
    assert "nvmlInit" not in driver.calls


def test_a_slice_that_is_somebody_elses(play: Play) -> None:
    """A container may be given one of them."""
    driver = play("h100-x2-mig")
    driver.answers["nvmlDeviceGetMigDeviceHandleByIndex"] = {"0 0": {"error": "NoPermission"}}

    assert len(Nvml().snapshot().gpus) == 3


def test_a_lost_gpu_is_lost_whatever_is_asked(play: Play) -> None:
    """Also if it falls off the bus between two questions."""
    driver = play("rtx3090-x2")
    driver.answers["nvmlDeviceGetPowerUsage"]["0"] = {"error": "GpuIsLost"}

    assert Nvml().snapshot().unread == (Unread(0, "GPU is lost", lost=True),)


@pytest.mark.parametrize(
    ("name", "unread"),
    [
        ("rtx3090-x2-lost", Unread(0, "GPU is lost", lost=True)),
        ("rtx3090-x2-denied", Unread(0, "Insufficient Permissions", denied=True)),
    ],
)
def test_one_that_cannot_be_read_does_not_hide_the_other(play: Play, name: str, unread: Unread) -> None:
    """Nor what NVML says of the other."""
    play(name)
    found = Nvml().snapshot()

    assert found.unread == (unread,)
    assert [(gpu.index, gpu.pci and gpu.pci.bus_id) for gpu in found.gpus] == [(1, "00000000:2B:00.0")]


@pytest.mark.parametrize("name", sorted(path.stem for path in SNAPSHOTS.glob("*.json")))
def test_every_snapshot_is_a_host_that_can_be_used(play: Play, name: str) -> None:
    """Memory adds up, and each GPU has a name of its own."""
    play(name)
    found = Nvml().snapshot()

    assert found.available
    assert found.gpus
    assert len({gpu.uuid for gpu in found.gpus}) == len(found.gpus)
    assert all(gpu.used_bytes + gpu.free_bytes == gpu.total_bytes for gpu in found.gpus)


def test_what_is_known_is_not_asked_again() -> None:
    """By UUID: another GPU in the same slot is another one."""
    driver = FakePynvml()
    known: dict[str, nvml_devices.Fixed] = {}
    nvml_devices.read(driver, 0, known)
    driver.answers["nvmlDeviceGetName"] = {"*": "NVIDIA B200"}
    same = nvml_devices.read(driver, 0, known)
    driver.answers["nvmlDeviceGetUUID"]["0"] = "GPU-9"
    other = nvml_devices.read(driver, 0, known)

    assert [gpu.product for gpu in (*same, *other)] == ["NVIDIA H200", "NVIDIA B200"]
