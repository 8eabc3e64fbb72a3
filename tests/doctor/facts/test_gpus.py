from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fakes.fake_pynvml import FakePynvml, NVMLError_LibraryNotFound
from vllmd.doctor.facts import gpus


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakePynvml:
    """NVML, with two GPUs."""
    driver = FakePynvml()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return driver


def test_nodes_are_tried(tmp_path: Path) -> None:
    """Each is opened, as CUDA does; what does not open says why, and what CUDA does not open is left alone."""
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm-tools", "null"):
        (tmp_path / name).touch()
    (tmp_path / "nvidia-uvm").mkdir()

    found = {node.path: (node.opens, node.why) for node in gpus.nodes(tmp_path)}

    assert found == {
        "/dev/nvidia0": (True, ""),
        "/dev/nvidiactl": (True, ""),
        "/dev/nvidia-uvm": (False, "Is a directory"),
    }


def test_no_devices_at_all(tmp_path: Path) -> None:
    """Nothing is found then, and nothing fails."""
    assert gpus.nodes(tmp_path / "dev") == ()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n", "570.86.15"),
        ("something else\n", None),
    ],
)
def test_the_kernels_driver(tmp_path: Path, text: str, version: str | None) -> None:
    """Its version is found in the words of either flavour; the closed and the open one."""
    (tmp_path / "version").write_text(text)

    assert gpus.kernel_driver(tmp_path / "version") == version
    assert gpus.kernel_driver(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/vllmd.service/main\n", "vllmd.service"),
        ("4:memory:/x.service\n1:name=systemd:/system.slice/vllmd.service\n0::/\n", "vllmd.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope\n", None),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_the_unit_that_it_runs_in(tmp_path: Path, text: str, unit: str | None) -> None:
    """A service of the system is one; the manager of a user, in which every shell is, is not."""
    (tmp_path / "cgroup").write_text(text)

    assert gpus.unit(tmp_path / "cgroup") == unit


def test_nvml_is_asked_as_the_daemon_does(driver: FakePynvml, tmp_path: Path) -> None:
    """With its GPUs; one that is missing says why."""
    assert len(gpus.look(None, tmp_path).inventory.gpus) == 2

    driver.errors["nvmlInit", None] = NVMLError_LibraryNotFound()

    assert "library not found" in gpus.look(None, tmp_path).inventory.error


def test_nvml_is_left_alone_where_gpus_are_simulated(driver: FakePynvml, tmp_path: Path) -> None:
    """There may be no driver."""
    driver.errors["nvmlInit", None] = NVMLError_LibraryNotFound()

    facts = gpus.look("2xRTX3090", tmp_path)

    assert (facts.simulated, facts.inventory.error) == ("2xRTX3090", "")
