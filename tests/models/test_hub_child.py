"""What a child that asks the hub may do to the daemon."""

from __future__ import annotations

import pathlib
import time

import pytest

from vllmd.interpreter import Interpreter
from vllmd.models import hub
from vllmd.tasks import in_thread


def interpreter(tmp_path: pathlib.Path, script: str) -> pathlib.Path:
    """A shell script in place of Python."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def run(python: pathlib.Path) -> object:
    """Ask for a model, as `hub.fetch` does on a thread."""
    return hub._run(("org/model", ""), Interpreter(python))


def test_endless_output_is_cut_short(tmp_path: pathlib.Path) -> None:
    """It was kept in the daemon's memory for as long as the child may take."""
    with pytest.raises(ValueError, match="an answer of more than"):
        run(interpreter(tmp_path, "cat /dev/zero"))


def test_what_a_child_started_ends_with_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter may be a script that starts the real one."""
    monkeypatch.setattr(hub, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(ValueError, match="no answer for"):
        run(interpreter(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid; wait"))
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)

    assert not _runs(pid)


def test_a_child_that_only_closes_its_output_is_not_waited_for(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one that says nothing."""
    monkeypatch.setattr(hub, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(ValueError, match="no answer for"):
        run(interpreter(tmp_path, "exec >&-; sleep 60"))


async def test_an_answer_is_read_to_its_last_line(tmp_path: pathlib.Path) -> None:
    """Whatever comes before."""
    python = interpreter(tmp_path, """echo warning; echo '{"files": {"config.json": 7}}'""")

    assert await in_thread("asking", lambda: run(python), 5.0) == {"files": {"config.json": 7}}


def _runs(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
