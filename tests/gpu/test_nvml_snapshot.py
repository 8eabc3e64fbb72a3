"""The snapshots that the other tests play: what `tests.bench.nvml_snapshot` records can be played again."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import re
import sys

import pytest

from tests.bench.nvml_snapshot import anonymous, main, plain, record, render
from tests.fakes.fake_pynvml import SNAPSHOTS, FakePynvml
from tests.gpu.conftest import Play
from vllmd.gpu.nvml import Nvml

NAMES = sorted(path.stem for path in SNAPSHOTS.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_recorded_is_the_same_host(play: Play, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Down to what can't be read, and the real binding is back where it was."""
    driver = play(name)
    found, answers = record(driver)
    recorded = json.loads(render("Recorded.", answers))

    assert sys.modules["pynvml"] is driver
    assert recorded["source"] == "Recorded."
    monkeypatch.setitem(sys.modules, "pynvml", FakePynvml(recorded["answers"]))
    assert anonymous(repr(Nvml().snapshot())) == anonymous(repr(found))


def test_uuids_are_made_up(play: Play, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of somebody's GPUs are nobody else's business."""
    driver = play("h100-x2-mig")
    driver.answers["nvmlDeviceGetUUID"]["1"] = "GPU-8f2c1a3b-77d0-4c1e-9a11-0123456789ab"
    monkeypatch.setattr(sys, "argv", ["nvml_snapshot"])
    status = main()
    out, err = capsys.readouterr()

    assert status == 0
    assert "8f2c" not in out
    assert len(set(re.findall(r"(?:GPU|MIG)-\d{8}-", out))) == 5
    assert "4 GPUs, 0 pairs" in err


def test_a_host_without_gpus_makes_no_snapshot(
    play: Play, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why."""
    play("rtx3090-x2").answers["nvmlInit"] = {"": {"error": "LibraryNotFound"}}
    monkeypatch.setattr(sys, "argv", ["nvml_snapshot"])

    assert main() == 1
    assert "NVML library not found" in capsys.readouterr().err


def test_what_the_real_binding_answers_with() -> None:
    """Structures of C, and objects that it makes of them."""

    class Memory(ctypes.Structure):
        _fields_ = (("total", ctypes.c_ulonglong), ("name", ctypes.c_char * 8))

    @dataclasses.dataclass
    class Friendly:
        pid: int
        used: int | None

    assert plain(Memory(5, b"abc")) == {"total": 5, "name": "abc"}
    assert plain([Friendly(7, None), (9, 0)]) == [{"pid": 7, "used": None}, [9, 0]]


@pytest.mark.parametrize("name", NAMES)
def test_every_snapshot_says_where_it_comes_from(name: str) -> None:
    """In the file, and in the list of them."""
    snapshot = json.loads((SNAPSHOTS / f"{name}.json").read_text())

    assert snapshot["source"]
    assert f"`{name}`" in (SNAPSHOTS / "README.md").read_text()
