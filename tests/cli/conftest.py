from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.fakes.fake_daemon import FakeDaemon
from vllmd.cli.main import app

Run = Callable[..., Result]
Spawn = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def run(daemon: FakeDaemon) -> Run:
    """Run a command line in this process, against the fake daemon."""

    def run(*arguments: str, stdin: str | bytes | None = None, **environ: str) -> Result:
        environ = {"VLLMD_ADDRESS": daemon.target, "COLUMNS": "120", **environ}
        return CliRunner(env=environ).invoke(app, list(arguments), input=stdin, prog_name="vllmd-cli")

    return run


@pytest.fixture
def spawn(daemon: FakeDaemon) -> Iterator[Spawn]:
    """Run a command line in a process of its own, with pipes, or with what the caller gives in their place."""
    processes: list[subprocess.Popen[str]] = []

    def spawn(*arguments: str, **pipes: int) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
        environ = os.environ | {"VLLMD_ADDRESS": daemon.target, "COLUMNS": "120", "TERM": "xterm"}
        command = [sys.executable, "-m", "vllmd.cli", *arguments]
        process = subprocess.Popen(command, env=environ, text=True, **pipes)  # type: ignore[call-overload]
        processes.append(process)
        return process  # type: ignore[no-any-return]

    yield spawn
    for process in processes:
        process.kill()
        process.communicate()
