from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vllmd.interpreter import Interpreter
from vllmd.profiles.installed import vllm_version


def python_with(directory: Path, **files: str) -> Path:
    """An interpreter that finds a package `vllm` with these modules, importing which is an error."""
    package = directory / "site" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('nobody may import vllm')\n")
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    return script(directory, f'PYTHONPATH={directory}/site exec {sys.executable} "$@"')


def script(directory: Path, line: str) -> Path:
    """A program of one line of shell."""
    path = directory / "python"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o700)
    return path


async def test_the_version_is_read_without_importing_vllm(tmp_path: Path) -> None:
    """It is what `vllm.__version__` would be, and an engine reports."""
    python = python_with(tmp_path, _version="print('chatter')\n__version__ = version = '0.25.1+cu129'\n")

    assert await vllm_version(Interpreter(python)) == "0.25.1+cu129"


async def test_without_that_file_the_distribution_tells(tmp_path: Path) -> None:
    """As it does of an installation from a checkout."""
    python = python_with(tmp_path)
    info = tmp_path / "site" / "vllm-0.22.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.22.0\n")

    assert await vllm_version(Interpreter(python)) == "0.22.0"


@pytest.mark.parametrize("line", ["exit 3", "echo nothing of use", "kill -9 $$"])
async def test_an_interpreter_that_does_not_say_has_an_unknown_one(tmp_path: Path, line: str) -> None:
    """It may have no vLLM, or not even run."""
    assert await vllm_version(Interpreter(script(tmp_path, line))) is None
    assert await vllm_version(Interpreter(tmp_path / "no such python")) is None


@pytest.mark.vllm
async def test_a_real_vllm_tells() -> None:
    """Whatever its distribution is called."""
    python = os.environ.get("VLLMD_TEST_ENGINE_PYTHON")
    if not python:
        pytest.fail("VLLMD_TEST_ENGINE_PYTHON names the interpreter that has vLLM; `make test` sets it")

    assert (await vllm_version(Interpreter(Path(python))) or "").count(".") >= 2
