from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_pynvml import FakePynvml, NVMLError_LibraryNotFound
from vllmd.configuration.reading import Sources
from vllmd.doctor.examine import Section, examine, examine_sources
from vllmd.doctor.finding import Finding

SECTIONS = ["configuration", "GPUs", "engines", "containment", "places", "daemon", "host", "leftovers"]


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePynvml:
    """A host without NVIDIA's driver, and nothing of the user's own in the way."""
    driver = FakePynvml()
    driver.errors["nvmlInit", None] = NVMLError_LibraryNotFound()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("VLLMD_CONFIG", str(tmp_path / "vllmd.toml"))
    for name in ("runtime_dir", "state_dir", "cache_dir"):
        monkeypatch.setenv(f"VLLMD_{name.upper()}", str(tmp_path / name))
    (tmp_path / "vllmd.toml").write_text('backend = "fake"\n')
    return driver


def said(sections: list[Section]) -> dict[str, Finding]:
    """All findings by their checks."""
    return {finding.check: finding for section in sections for finding in section.findings}


async def test_every_part_of_the_host_has_a_section(tmp_path: Path) -> None:
    """In an order in which what others depend on comes first; the directories are the configuration's."""
    sections = await examine_sources(None, {})

    assert [section.name for section in sections] == SECTIONS
    assert all(section.findings for section in sections)
    assert said(sections)["state_dir"].found.startswith(str(tmp_path / "state_dir"))


async def test_a_flag_counts_over_the_file(tmp_path: Path) -> None:
    """As it does for the daemon, and the line about the sources says so."""
    (tmp_path / "vllmd.toml").write_text('backend = "fake"\nengine_python = "/nowhere/python"\n')

    of_file = said(await examine_sources(None, {}))
    of_flag = said(await examine_sources(None, {"engine_python": Path(sys.executable)}))

    assert of_file["engine_python"].level == "fail"
    assert of_flag["engine_python"].level == "ok"
    assert "engine_python" in of_flag["read from"].found


async def test_another_file(tmp_path: Path) -> None:
    """The one that is named, drop-ins and all."""
    (tmp_path / "other.toml").write_text('simulate = "2xRTX3090"\n')

    found = said(await examine_sources(tmp_path / "other.toml", {}))

    assert found["GPUs"].found == "simulated: 2xRTX3090"


async def test_a_configuration_that_is_wrong(tmp_path: Path) -> None:
    """Each mistake fails with its line; what a daemon would use is not guessed."""
    (tmp_path / "vllmd.toml").write_text('idle_timeout = "soon"\nsockett = "x"\n')

    [section] = await examine_sources(None, {})

    assert [finding.level for finding in section.findings] == ["fail", "fail"]
    assert "vllmd.toml:1: idle_timeout" in section.findings[0].found


async def test_engines_that_need_no_gpu(tmp_path: Path) -> None:
    """What engines are decides whether a host without a driver fails."""
    fake = said(await examine_sources(None, {}))
    (tmp_path / "vllmd.toml").write_text("")
    real = said(await examine_sources(None, {}))

    assert fake["GPUs"].level == "ok"
    assert real["driver"].level == real["vLLM"].level == "fail"


async def test_what_does_not_come_back(driver: FakePynvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is stuck fails by itself, and keeps nothing else from being looked at."""

    def stuck(*_: Any) -> None:
        time.sleep(2.0)

    driver.nvmlInit = stuck  # type: ignore[attr-defined]
    sections = await examine(Sources().read(), patience=1.0)

    assert [section.name for section in sections] == SECTIONS
    assert [finding.level for finding in sections[1].findings] == ["fail"]
    assert "within 1 seconds" in sections[1].findings[0].found
    assert said(sections)["engine_python"].level == "ok"


async def test_what_can_not_be_seen(driver: FakePynvml) -> None:
    """An error of the system's is quoted, and nothing is said to be wrong."""

    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    driver.nvmlInit = broken  # type: ignore[attr-defined]
    sections = await examine(Sources().read())

    assert [finding.level for finding in sections[1].findings] == ["unknown"]
    assert "Input/output error" in sections[1].findings[0].found
