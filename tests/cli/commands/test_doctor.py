from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.fakes.fake_pynvml import FakePynvml, NVMLError_LibraryNotFound
from vllmd.cli.main import app


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A host without NVIDIA's driver and with an empty configuration, on which no daemon runs."""
    driver = FakePynvml()
    driver.errors["nvmlInit", None] = NVMLError_LibraryNotFound()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("state_dir", "cache_dir"):
        monkeypatch.setenv(f"VLLMD_{name.upper()}", str(tmp_path / name))
    monkeypatch.setenv("VLLMD_CONFIG", str(tmp_path / "vllmd.toml"))
    (tmp_path / "vllmd.toml").touch()
    with tempfile.TemporaryDirectory(prefix="vd") as short:  # sockets go below it
        monkeypatch.setenv("VLLMD_RUNTIME_DIR", short)
        yield tmp_path


def run(*arguments: str) -> Result:
    """Run the command in this process, on a terminal of 80 columns."""
    environ = {"VLLMD_ADDRESS": "unix:/nowhere.sock", "COLUMNS": "80"}
    return CliRunner(env=environ).invoke(app, ["doctor", *arguments], prog_name="vllmd-cli")


def document(*arguments: str) -> dict[str, Any]:
    """The object that programs get."""
    found: dict[str, Any] = json.loads(run(*arguments, "-o", "json").stdout)
    return found


def test_a_host_that_is_not_ready() -> None:
    """Each line says how it stands and what to do, within the terminal, and the exit status tells."""
    result = run()

    assert result.exit_code == 1
    assert "fail     driver" in result.stdout
    assert "--simulate 2xRTX3090" in " ".join(result.stdout.split())
    assert "Not ready: " in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_a_host_that_is_ready(host: Path) -> None:
    """Warnings and what is unknown leave the exit status 0."""
    (host / "vllmd.toml").write_text('simulate = "2xRTX3090"\n')
    result = run()

    assert result.exit_code == 0, result.stdout
    assert "simulated: 2xRTX3090" in result.stdout
    assert "Nothing failed" in result.stdout


def test_for_programs() -> None:
    """The same checks, counted by how they stand."""
    found = document()

    assert found["healthy"] is False
    failed = [check["check"] for check in found["checks"] if check["level"] == "fail"]
    assert {"driver", "NVML", "vLLM"} <= set(failed)
    assert found["fail"] == len(failed)
    assert set(found["checks"][0]) == {"section", "check", "level", "found", "todo"}
    assert all(check["todo"] for check in found["checks"] if check["level"] in ("warn", "fail"))


def test_the_interpreter_and_the_file_can_be_named(host: Path) -> None:
    """As for the daemon."""
    (host / "other.toml").write_text('backend = "fake"\n')
    found = document("--config", str(host / "other.toml"), "--engine-python", "/nowhere/python")
    checks = {check["check"]: check for check in found["checks"]}

    assert str(host / "other.toml") in checks["read from"]["found"]
    assert checks["engine_python"]["found"] == "/nowhere/python is no program that can be run"
    assert checks["engine_python"]["level"] == "fail"


def test_a_path_from_here(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell completes is found, and shown as the configuration wants it; a name is looked up in the PATH."""
    (host / "python").symlink_to(sys.executable)
    monkeypatch.chdir(host)
    monkeypatch.setenv("PATH", str(host))
    for named, shown in (("./python", str(host / "python")), ("python", "python")):
        checks = {check["check"]: check for check in document("--engine-python", named)["checks"]}

        assert checks["engine_python"]["level"] == "ok"
        assert checks["engine_python"]["found"].startswith(f"{shown}, Python 3.")


def test_a_broken_configuration(host: Path) -> None:
    """It fails, by file and line, as `vllmd config check` says it."""
    (host / "vllmd.toml").write_text("idle_timeout = -1\n")
    result = run()

    assert result.exit_code == 1
    assert "vllmd.toml:1: idle_timeout" in result.stdout.replace("\n", "").replace(" " * 25, "")


def test_every_check_is_explained() -> None:
    """docs/doctor.md has each by the name that the command prints."""
    text = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text()
    missing = {check["check"] for check in document()["checks"] if f"`{check['check']}`" not in text}

    assert not missing
