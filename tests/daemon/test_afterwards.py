from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from tests.fakes.processes import Family, ends
from vllmd.daemon import afterwards
from vllmd.engines.containment import Containment
from vllmd.worker.spec import OWNER_LOCK


@pytest.mark.parametrize(
    ("result", "noted", "over"),
    [
        ("success", False, True),
        ("success", True, True),
        ("signal", False, False),
        ("watchdog", False, False),
        ("exit-code", False, False),
        ("timeout", True, True),
        ("signal", True, True),
        ("", False, False),
    ],
)
def test_engines_end_after_a_stop_and_stay_after_a_crash(
    tmp_path: pathlib.Path, result: str, noted: bool, over: bool
) -> None:
    """Also after a stop during which the daemon crashed."""
    if noted:
        with pytest.raises(RuntimeError), afterwards.noted(tmp_path):
            raise RuntimeError("a crash, while it was about to end")

    assert afterwards.is_over(result, tmp_path) == over


def test_the_note_goes_with_a_daemon_that_ends_well(tmp_path: pathlib.Path) -> None:
    """And with the start of the next one."""
    with afterwards.noted(tmp_path):
        during = afterwards.is_over("signal", tmp_path)
    after = afterwards.is_over("signal", tmp_path)
    with pytest.raises(RuntimeError), afterwards.noted(tmp_path):
        raise RuntimeError
    afterwards.forget(tmp_path)
    afterwards.forget(tmp_path)

    assert (during, after, afterwards.is_over("signal", tmp_path)) == (True, False, False)


def test_all_engines_of_a_unit_are_ended(cgroups: Containment, tmp_path: pathlib.Path) -> None:
    """With what they leave; whoever is not in the unit is not touched."""
    assert cgroups.base is not None
    unit = cgroups.base
    cgroup = unit / "vllmd-1" / "engine-e-1"
    cgroup.mkdir(parents=True)
    lock = tmp_path / "e" / "e-1" / OWNER_LOCK
    lock.parent.mkdir(parents=True)
    lock.touch()
    with Family("escaping", cgroup=cgroup) as engine, Family("calm") as other:
        left = afterwards.end_all(unit, tmp_path)
        ended, lives = ends(engine.child, 5.0), not ends(other.child, 0.0)

    assert left == []
    assert (ended, lives) == (True, True)
    assert not cgroup.parent.exists()
    assert not lock.exists()


def test_who_does_not_go_is_told(tmp_path: pathlib.Path) -> None:
    """Something that is stuck in a driver outlives SIGKILL."""
    group = tmp_path / "vllmd-1"
    group.mkdir()
    (group / "cgroup.events").write_text("populated 1\nfrozen 0\n")

    assert afterwards.end_all(tmp_path, tmp_path / "run", timeout=0.02) == [str(group)]


@pytest.mark.parametrize("place", ["vllmd-daemon", ".control", "", "its/own"])
def test_an_engine_that_has_moved_is_ended_as_well(cgroups: Containment, tmp_path: pathlib.Path, place: str) -> None:
    """All cgroups of the unit belong to the user that engines run as."""
    assert cgroups.base is not None
    unit = cgroups.base
    hiding = unit / place
    hiding.mkdir(parents=True, exist_ok=True)
    with Family("calm", cgroup=hiding) as engine:
        left = afterwards.end_all(unit, tmp_path)
        ended = ends(engine.child, 5.0)
    for made in (unit / "its/own", unit / "its", unit / ".control"):
        if made.exists():
            made.rmdir()

    assert left == []
    assert ended


def test_controllers_are_taken_back_from_the_bottom_up(tmp_path: pathlib.Path) -> None:
    """The kernel refuses the other way round; the files are its own where it is real."""
    group, leaf = tmp_path / "vllmd-1", tmp_path / "vllmd-daemon"
    for cgroup, controllers in ((tmp_path, "memory pids"), (group, "memory"), (leaf, "")):
        cgroup.mkdir(exist_ok=True)
        (cgroup / "cgroup.subtree_control").write_text(f"{controllers}\n")
    afterwards.take_controllers_back(tmp_path)
    written = {cgroup: (cgroup / "cgroup.subtree_control").read_text() for cgroup in (tmp_path, group, leaf)}
    first, last = ((cgroup / "cgroup.subtree_control").stat().st_mtime_ns for cgroup in (group, tmp_path))

    assert written == {tmp_path: "-memory -pids", group: "-memory", leaf: "\n"}
    assert first <= last


def test_it_is_a_program_that_says_why_engines_stay(tmp_path: pathlib.Path) -> None:
    """In the journal, where somebody looks for them."""
    program = [sys.executable, "-m", "vllmd.daemon.afterwards"]
    environment = {"SERVICE_RESULT": "watchdog", "RUNTIME_DIRECTORY": str(tmp_path)}
    told = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=30, check=True)

    assert told.stderr == "<5>the daemon ended by watchdog: engines stay for the next one\n"
