from __future__ import annotations

import dataclasses

from tests.doctor.judged import by_check, levels
from vllmd.doctor.gpus import GpuFacts, Node, judge
from vllmd.gpu.inventory import Gpu, Inventory, Unread

GPU = Gpu("GPU-0", 0, "NVIDIA H200", 100, 0, 100)
SEEN = Inventory((GPU, dataclasses.replace(GPU, uuid="GPU-1", index=1)), "570.86.15", cuda_version="12.8")
NODES = tuple(Node(f"/dev/nvidia{name}", opens=True) for name in ("0", "1", "ctl", "-uvm"))
GOOD = GpuFacts(inventory=SEEN, nodes=NODES, kernel_driver="570.86.15")
BARE = GpuFacts(inventory=Inventory(error="NVML library not found"), nodes=(), kernel_driver=None)


def test_a_host_in_order() -> None:
    """Driver, NVML and devices, each with what there is."""
    found = by_check(judge(GOOD))

    assert {str(one.level) for one in found.values()} == {"ok"}
    assert found["NVML"].found == "2 GPUs (NVIDIA H200), CUDA 12.8"
    assert found["devices"].found == "4 nodes open as this user, outside of the service"


def test_a_host_without_a_driver() -> None:
    """Engines that need GPUs fail there, and what depends on the driver is not blamed by itself."""
    assert levels(judge(BARE)) == {"driver": "fail", "NVML": "fail", "devices": "unknown"}


def test_engines_for_the_cpu_need_no_driver() -> None:
    """A vLLM that was built for the CPU runs on such a host; one with GPUs is looked at all the same."""
    assert levels(judge(dataclasses.replace(BARE, needed=False))) == {"GPUs": "ok"}
    assert "driver" in levels(judge(dataclasses.replace(GOOD, needed=False)))


def test_simulated_gpus_need_nothing() -> None:
    """Nothing of the host's driver is asked then."""
    assert levels(judge(dataclasses.replace(BARE, simulated="2xRTX3090"))) == {"GPUs": "ok"}


def test_a_driver_that_was_upgraded_beneath_the_kernel() -> None:
    """NVML's "version mismatch" is told as what it is, with the way out."""
    found = by_check(judge(dataclasses.replace(GOOD, kernel_driver="565.57.01")))["driver"]

    assert found.level == "fail"
    assert "reboot" in found.todo


def test_an_old_driver() -> None:
    """vLLM's builds are for newer CUDA; a forward compatibility package may help, so it is no failure by itself."""
    old = dataclasses.replace(SEEN, driver_version="550.54.15")

    assert levels(judge(dataclasses.replace(GOOD, inventory=old, kernel_driver="550.54.15")))["driver"] == "warn"


def test_a_gpu_that_can_not_be_read() -> None:
    """One that is lost fails, one that is not ours to ask does not; each is named."""
    unread = (Unread(2, "GPU is lost", lost=True), Unread(3, "no permission", denied=True))
    found = levels(judge(dataclasses.replace(GOOD, inventory=dataclasses.replace(SEEN, unread=unread))))

    assert (found["NVML"], found["GPU 2"], found["GPU 3"]) == ("ok", "fail", "unknown")


def test_devices_that_a_unit_hides() -> None:
    """Inside of the service the way out is in the unit, elsewhere it is on the host."""
    hidden = dataclasses.replace(GOOD, nodes=NODES[:3])
    inside = by_check(judge(dataclasses.replace(hidden, unit="vllmd.service")))["devices"]
    outside = by_check(judge(hidden))["devices"]

    assert inside.level == outside.level == "fail"
    assert inside.found == "not there inside vllmd.service: /dev/nvidia-uvm"
    assert "PrivateDevices=no" in inside.todo
    assert "nvidia-modprobe" in outside.todo


def test_devices_that_do_not_open() -> None:
    """The kernel's reason is quoted, and what gives the access is said."""
    closed = (*NODES[:3], Node("/dev/nvidia-uvm", opens=False, why="Operation not permitted"))
    inside = by_check(judge(dataclasses.replace(GOOD, nodes=closed, unit="vllmd.service")))["devices"]
    outside = by_check(judge(dataclasses.replace(GOOD, nodes=closed)))["devices"]

    assert inside.level == outside.level == "fail"
    assert "/dev/nvidia-uvm (Operation not permitted)" in inside.found
    assert "DeviceAllow=" in inside.todo
    assert "group" in outside.todo


def test_what_nvml_complains_of_decides_what_to_do() -> None:
    """A missing library, a list that leaves no GPU and anything else have ways out of their own."""
    complaints = ["NVML library not found", "CUDA_VISIBLE_DEVICES=9 leaves none of 2 GPUs", "NVML: Unknown Error"]
    todos = {
        by_check(judge(dataclasses.replace(GOOD, inventory=Inventory(error=one))))["NVML"].todo for one in complaints
    }

    assert len(todos) == 3
