from __future__ import annotations

import os
import pathlib
import stat

import pytest

from tests.fakes.processes import Family
from vllmd.engines import stacks
from vllmd.worker.tree import Tree

SPY = """#!/bin/sh
echo "spied on $@"
"""


async def test_py_spy_sees_every_process_where_it_is_installed(
    engine_id: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its name, in the engine's own log; nobody is stopped for it."""
    spy = tmp_path / "bin" / "py-spy"
    spy.parent.mkdir()
    spy.write_text(SPY)
    spy.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{spy.parent}{os.pathsep}{os.environ['PATH']}")
    log = tmp_path / "log"
    log.write_text("before\n")
    with Family("named", engine_id) as family:
        await stacks.dump(Tree(engine_id, family.leader, None), log)

    written = log.read_text()
    assert written.startswith("before\n")
    assert f"stacks of VLLM::EngineCor (pid {family.child.pid}):\n" in written
    assert all(f"spied on dump --nonblocking --pid {member.pid}\n" in written for member in family.members)


async def test_a_tree_that_is_gone_has_no_stacks(engine_id: str, tmp_path: pathlib.Path) -> None:
    """And that is no error."""
    (tmp_path / "log").touch()
    with Family("calm", engine_id) as family:
        pass
    await stacks.dump(Tree(engine_id, family.leader, None), tmp_path / "log")
    await stacks.dump(Tree(engine_id, None, None), tmp_path / "log")

    assert (tmp_path / "log").read_text() == ""


async def test_a_log_that_cannot_be_written_stops_nobody(
    engine_id: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kill that follows has to come."""
    caplog.set_level("WARNING", logger="vllmd")  # whatever another test has left
    spy = tmp_path / "py-spy"
    spy.write_text(SPY)
    spy.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with Family("named", engine_id) as family:
        await stacks.dump(Tree(engine_id, family.leader, None), pathlib.Path("/dev/full"))

    assert "no stacks of" in caplog.text
