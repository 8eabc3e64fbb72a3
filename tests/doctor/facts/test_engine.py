from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vllmd.doctor.engine import EngineFacts
from vllmd.doctor.facts import engine
from vllmd.interpreter import Interpreter


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter whose vLLM and torch break whoever imports them."""
    for package, file, text in (
        ("vllm", "_version.py", "__version__ = '0.25.1'\n"),
        ("torch", "version.py", "__version__ = '2.11.0+cu128'\ncuda: str | None = '12.8'\nhip = None\n"),
    ):
        folder = tmp_path / "site" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise SystemExit('imported')\n")
        (folder / file).write_text(text)
    return script(tmp_path, f'PYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"')


def script(directory: Path, line: str) -> Path:
    """A program that goes for an interpreter."""
    path = directory / "python"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


def look(python: Path, seconds: float = engine.SECONDS) -> EngineFacts:
    """Ask it."""
    return engine.look(Interpreter(python), fake=False, driver_cuda="13.0", gpus=2, seconds=seconds)


def test_versions_are_asked_without_an_import(python: Path) -> None:
    """What is installed says what it is, and what is known from elsewhere goes with it."""
    facts = look(python)

    assert (facts.vllm, facts.torch, facts.torch_cuda, facts.torch_hip) == ("0.25.1", "2.11.0+cu128", "12.8", None)
    assert facts.python_version == sys.version.split()[0]
    assert (facts.driver_cuda, facts.gpus) == ("13.0", 2)
    assert facts.msgspec is not None


def test_a_version_that_can_not_be_read(python: Path, tmp_path: Path) -> None:
    """It is there, and nobody knows which: that is not the same as none."""
    (tmp_path / "site/vllm/_version.py").write_text("raise RuntimeError\n")

    assert look(python).vllm == "of an unknown version"


def test_an_environment_without_vllm() -> None:
    """The tests' own has none."""
    facts = look(Path(sys.executable))

    assert facts.runs
    assert facts.python_version is not None
    assert (facts.vllm, facts.torch_cuda) == (None, None)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """It does not run."""
    facts = look(tmp_path / "absent")

    assert (facts.runs, facts.why) == (False, "is no program that can be run")


def test_a_program_that_is_no_python(tmp_path: Path) -> None:
    """It runs, and says nothing that is understood."""
    facts = look(script(tmp_path, "echo hello"))

    assert not facts.runs
    assert "no Python" in facts.why


def test_a_program_of_another_machine(tmp_path: Path) -> None:
    """The kernel's reason is quoted."""
    path = script(tmp_path, "")
    path.write_bytes(b"\x7fELF, but not really")

    assert look(path).why == "can't be run: Exec format error"


def test_an_interpreter_that_hangs(tmp_path: Path) -> None:
    """It is given up: nothing is known of it."""
    facts = look(script(tmp_path, "exec sleep 60"), seconds=0.2)

    assert facts.runs
    assert (facts.python_version, facts.why) == (None, "says nothing within 0.2 seconds")
