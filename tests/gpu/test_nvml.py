from __future__ import annotations

import logging
import sys

import pytest

from tests.fakes import fake_pynvml
from tests.fakes.fake_pynvml import FakePynvml
from vllmd.gpu.inventory import Gpu, GpuProcess, Inventory, Unread
from vllmd.gpu.nvml import Nvml


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakePynvml:
    """The fake driver, in the place of the real binding."""
    fake = FakePynvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_a_gpu_is_read_as_nvml_reports_it(driver: FakePynvml) -> None:
    """Sizes stay bytes, the percentage becomes a fraction, and processes have their memory."""
    inventory = Nvml().snapshot()

    assert inventory.driver_version == "570.86.15"
    assert inventory.error == ""
    assert inventory.gpus[1] == Gpu(
        "GPU-1", 1, "NVIDIA H200", 100_000, 10_001, 89_999, (9, 0), 0.37, (GpuProcess(4711, 7_000),)
    )


@pytest.mark.parametrize(("number", "version"), [(13000, "13.0"), (12080, "12.8"), (11040, "11.4"), (None, "")])
def test_the_newest_cuda_that_the_driver_runs(driver: FakePynvml, number: int | None, version: str) -> None:
    """NVML has it as a number. That it can't find CUDA's library does not mean that there is no driver."""
    answer = number or {"error": "LibraryNotFound"}
    driver.answers["nvmlSystemGetCudaDriverVersion"] = {"": answer}

    assert Nvml().snapshot().cuda_version == version


def test_the_library_is_initialized_once(driver: FakePynvml) -> None:
    """It is set up at the first snapshot, not before, and let go once."""
    nvml = Nvml()
    nvml.close()
    before = list(driver.calls)
    nvml.snapshot()
    nvml.snapshot()
    nvml.close()
    nvml.close()

    assert before == []
    assert driver.calls.count("nvmlInit") == 1
    assert driver.calls.count("nvmlShutdown") == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (fake_pynvml.NVMLError_LibraryNotFound(), "NVML library not found: no NVIDIA driver is installed"),
        (fake_pynvml.NVMLError_DriverNotLoaded(), "the NVIDIA driver is not loaded"),
    ],
)
def test_a_host_without_a_driver_has_no_gpus_and_says_why(
    driver: FakePynvml, error: fake_pynvml.NVMLError, text: str
) -> None:
    """That there is no GPU is no failure of ours."""
    driver.errors["nvmlInit", None] = error

    assert Nvml().snapshot() == Inventory(error=text)


def test_a_driver_that_fails_does_not_mean_that_there_is_no_gpu(driver: FakePynvml) -> None:
    """An engine must not be started on the CPU because the driver had a bad moment."""
    driver.errors["nvmlInit", None] = fake_pynvml.NVMLError("Unknown Error")

    assert Nvml().snapshot() == Inventory(error="NVML: Unknown Error", available=False)


def test_a_driver_that_comes_back_is_found_again(driver: FakePynvml) -> None:
    """After a failure the library is let go and set up anew, so that a reset GPU needs no restart."""
    nvml = Nvml()
    nvml.snapshot()
    driver.errors["nvmlDeviceGetCount", None] = fake_pynvml.NVMLError("Driver/library version mismatch")
    driver.errors["nvmlShutdown", None] = fake_pynvml.NVMLError("Uninitialized")
    failed = nvml.snapshot()
    driver.errors.clear()
    again = nvml.snapshot()

    assert failed.error == "NVML: Driver/library version mismatch"
    assert len(again.gpus) == 2
    assert driver.calls.count("nvmlInit") == 2


def test_a_lost_gpu_does_not_hide_the_others(driver: FakePynvml, caplog: pytest.LogCaptureFixture) -> None:
    """A GPU that has fallen off the bus is left out, and the log says so."""
    driver.errors["nvmlDeviceGetHandleByIndex", 0] = fake_pynvml.NVMLError_GpuIsLost("GPU is lost")
    nvml = Nvml()
    with caplog.at_level(logging.WARNING):
        inventory, _ = nvml.snapshot(), nvml.snapshot()

    assert [gpu.index for gpu in inventory.gpus] == [1]
    assert inventory.unread == (Unread(0, "GPU is lost", lost=True),)
    assert caplog.text.count("GPU 0 is left out") == 1


@pytest.mark.parametrize("read_before", [True, False])
def test_a_lost_gpu_keeps_its_place_among_the_visible_ones(driver: FakePynvml, read_before: bool) -> None:
    """It does not end the list that names it, and one that is hidden is nobody's loss."""
    both, second = Nvml("0,1"), Nvml("1")
    if read_before:
        both.snapshot()
    driver.errors["nvmlDeviceGetHandleByIndex", 0] = fake_pynvml.NVMLError("Unknown Error")

    assert [gpu.index for gpu in both.snapshot().gpus] == [1]
    assert both.snapshot().unread == (Unread(0, "Unknown Error", lost=False),)
    assert second.snapshot().unread == ()


def test_a_number_goes_on_meaning_the_same_gpu(driver: FakePynvml) -> None:
    """Once NVML lists one less, the numbers of those after it move up, to what is another daemon's."""
    nvml = Nvml("0")
    before = nvml.snapshot()
    driver.answers["nvmlDeviceGetCount"][""] = 1
    driver.answers["nvmlDeviceGetUUID"]["0"] = "GPU-1"

    assert [gpu.uuid for gpu in before.gpus] == ["GPU-0"]
    assert nvml.snapshot().gpus == ()


def test_nvml_is_set_up_anew_while_a_gpu_is_missing(driver: FakePynvml) -> None:
    """Or a GPU that was reset would not be found again; not each second, and not while all are well."""
    now = [0.0]
    nvml = Nvml(clock=lambda: now[0])

    def inits_after(seconds: float) -> int:
        now[0] = seconds
        nvml.snapshot()
        return driver.calls.count("nvmlInit")

    well = [inits_after(seconds) for seconds in (0.0, 100.0, 101.0)]
    driver.errors["nvmlDeviceGetHandleByIndex", 0] = fake_pynvml.NVMLError_GpuIsLost("GPU is lost")
    looks = [inits_after(seconds) for seconds in (102.0, 103.0, 104.0, 133.0)]
    driver.errors.clear()

    assert well == [1, 1, 1]
    assert looks == [1, 2, 2, 2]
    assert [gpu.uuid for gpu in nvml.snapshot().gpus] == ["GPU-0", "GPU-1"]
    assert driver.calls.count("nvmlInit") == 3


def test_gpus_of_which_none_can_be_read(driver: FakePynvml) -> None:
    """They are there, and the driver answers."""
    for index in range(2):
        driver.errors["nvmlDeviceGetHandleByIndex", index] = fake_pynvml.NVMLError_GpuIsLost("GPU is lost")
    inventory = Nvml().snapshot()

    assert (inventory.gpus, inventory.error, inventory.available) == ((), "NVML can read no GPU", True)
    assert len(inventory.unread) == 2


@pytest.mark.parametrize("error", [fake_pynvml.NVMLError("Unknown Error"), fake_pynvml.NVMLError_NoPermission()])
def test_a_driver_that_answers_for_none_says_nothing_about_any(
    driver: FakePynvml, error: fake_pynvml.NVMLError
) -> None:
    """As in a container that has lost its devices: their engines go on."""
    for index in range(2):
        driver.errors["nvmlDeviceGetHandleByIndex", index] = error

    assert not Nvml().snapshot().available


def test_a_driver_that_goes_takes_no_gpu_with_it(driver: FakePynvml) -> None:
    """Where GPUs were, nothing follows from its absence."""
    nvml = Nvml()
    nvml.snapshot()
    driver.errors["nvmlDeviceGetCount", None] = fake_pynvml.NVMLError_DriverNotLoaded()

    assert nvml.snapshot() == Inventory(error="the NVIDIA driver is not loaded", available=False)


@pytest.mark.parametrize(
    "error",
    [
        fake_pynvml.NVMLError_NotSupported(),
        fake_pynvml.NVMLError_NoPermission(),
        fake_pynvml.NVMLError_FunctionNotFound(),
    ],
)
def test_what_the_driver_does_not_say_is_unknown(driver: FakePynvml, error: fake_pynvml.NVMLError) -> None:
    """An unanswered question costs its own field alone."""
    for name in ("CudaComputeCapability", "UtilizationRates", "ComputeRunningProcesses"):
        driver.errors[f"nvmlDeviceGet{name}", 0] = error
    gpu = Nvml().snapshot().gpus[0]

    assert gpu == Gpu("GPU-0", 0, "NVIDIA H200", 100_000, 10_000, 90_000)


def test_a_process_whose_memory_is_hidden(driver: FakePynvml) -> None:
    """In most containers the driver names processes and not what they hold: that is `None`, not 0."""
    driver.answers["nvmlDeviceGetComputeRunningProcesses"] = {"*": [{"pid": 7, "usedGpuMemory": None}]}

    assert Nvml().snapshot().gpus[0].processes == (GpuProcess(7, None),)


def test_a_driver_that_finds_nothing(driver: FakePynvml) -> None:
    """No GPU behind a working driver is said as such."""
    driver.answers["nvmlDeviceGetCount"][""] = 0

    assert Nvml().snapshot() == Inventory((), "570.86.15", "NVML finds no GPU")


def test_gpus_that_are_hidden_from_cuda_are_hidden_from_the_daemon(driver: FakePynvml) -> None:
    """Where all are, it says so: nobody should look for a broken driver."""
    none = Nvml("7").snapshot()

    assert [gpu.index for gpu in Nvml("1").snapshot().gpus] == [1]
    assert none.gpus == ()
    assert none.error == f"CUDA_VISIBLE_DEVICES=7 leaves none of {len(Nvml().snapshot().gpus)} GPUs"
    assert none.available
