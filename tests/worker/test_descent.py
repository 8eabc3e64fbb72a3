from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.fakes.foreign import Foreign, send, stat_of
from tests.fakes.processes import Family, ends, eventually, lives, processes_of
from vllmd.worker.descent import Descent, below
from vllmd.worker.processes import Identity, Stat
from vllmd.worker.tree import Killed

AS_NOBODY = """
import os, sys
from vllmd.worker.descent import Descent
from vllmd.worker.processes import read_stat
os.setuid(65534)
print(Descent(read_stat(int(sys.argv[1]))).kill(5.0, lambda: True).pids)
"""


def yes() -> bool:
    return True


def process(pid: int, parent: int) -> Stat:
    return Stat(Identity(pid, 1), "x", "S", parent, 1, 1)


def test_below_is_everybody_by_descent() -> None:
    """Children and their children, parents first, and nobody else."""
    stats = [process(4, 3), process(3, 2), process(2, 1), process(5, 1), process(6, 2)]

    assert [stat.identity.pid for stat in below(2, stats)] == [2, 3, 6, 4]
    assert below(9, stats) == []


def test_a_circle_ends() -> None:
    """Two that changed hands between two looks may seem to be each other's parents."""
    assert [stat.identity.pid for stat in below(2, [process(2, 3), process(3, 2)])] == [2, 3, 2]


def test_the_whole_tree_is_killed(runtime: pathlib.Path) -> None:
    """The core and its worker, and not the launcher above them."""
    with Foreign("serving", runtime) as foreign:
        killed = Descent(stat_of(foreign.core.pid)).kill(5.0, yes)

        assert killed == Killed(tuple(sorted([foreign.core.pid, foreign.worker.pid])), ())
        assert not lives(foreign.core)
        assert not lives(foreign.worker)
        assert lives(foreign.launcher)


def test_all_are_stopped_when_it_is_confirmed(runtime: pathlib.Path) -> None:
    """Who confirms sees a tree that can't become anything else meanwhile."""
    states: list[str] = []

    with Foreign("serving", runtime) as foreign:

        def confirm() -> bool:
            states.extend(stat_of(one.pid).state for one in (foreign.core, foreign.worker))
            return True

        Descent(stat_of(foreign.core.pid)).kill(5.0, confirm)

    assert states == ["T", "T"]


def test_what_is_not_confirmed_goes_on(runtime: pathlib.Path) -> None:
    """Nobody is killed, nobody stays stopped, and who had been stopped before is not woken."""
    with Foreign("serving", runtime) as foreign:
        send(foreign.worker, signal.SIGSTOP)
        assert eventually(lambda: stat_of(foreign.worker.pid).state == "T")
        killed = Descent(stat_of(foreign.core.pid)).kill(5.0, lambda: False)

        assert killed == Killed((), ())
        assert eventually(lambda: stat_of(foreign.core.pid).state == "S")
        assert stat_of(foreign.worker.pid).state == "T"


@pytest.mark.parametrize("change", ["identity", "name", "parent"])
def test_who_is_not_what_it_was_is_left_alone(runtime: pathlib.Path, change: str) -> None:
    """A recycled pid, a process that became somebody else, and one that has a new parent."""
    with Foreign("serving", runtime) as foreign:
        now = stat_of(foreign.core.pid)
        before = {
            "identity": dataclasses.replace(now, identity=Identity(now.identity.pid, now.identity.start_ticks - 1)),
            "name": dataclasses.replace(now, name="VLLM::Worker"),
            "parent": dataclasses.replace(now, parent_pid=1),
        }
        killed = Descent(before[change]).kill(5.0, yes)

        assert killed == Killed((), ())
        assert lives(foreign.core)
        assert lives(foreign.worker)
        assert stat_of(foreign.core.pid).state not in "Tt"


def test_children_that_are_made_meanwhile_are_killed_too(engine_id: str) -> None:
    """A tree that forks all the time, some of it into sessions of their own, does not outrun its end."""
    with Family("forking", engine_id) as family:
        killed = Descent(stat_of(family.child.pid)).kill(10.0, yes)
        left = processes_of(engine_id)

        assert len(killed.pids) > 1
        assert killed.survivors == ()
        assert len(left) == 1, "the leader, who is above it"


def test_nobody_kills_its_own_tree() -> None:
    """The daemon is below somebody, too."""
    assert Descent(stat_of(os.getppid())).members() == []
    assert Descent(stat_of(1)).members() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else to try it")
def test_without_permission_nobody_is_touched(runtime: pathlib.Path) -> None:
    """Another user's tree is left as it is."""
    with Foreign("serving", runtime) as foreign:
        argv = [sys.executable, "-c", AS_NOBODY, str(foreign.core.pid)]
        output = subprocess.check_output(argv, timeout=20)

        assert output == b"()\n"
        assert stat_of(foreign.core.pid).state not in "Tt"
        assert lives(foreign.worker)


def test_what_sigkill_does_not_end_is_told(runtime: pathlib.Path, frozen: pathlib.Path) -> None:
    """A process that is stuck in the kernel is named as a survivor, once the time is over."""
    with Foreign("serving", runtime) as foreign:
        (frozen / "cgroup.procs").write_text(str(foreign.worker.pid))
        (frozen / "freezer.state").write_text("FROZEN")
        assert eventually(lambda: (frozen / "freezer.state").read_text() == "FROZEN\n")
        killed = Descent(stat_of(foreign.core.pid)).kill(0.5, yes)
        (frozen / "freezer.state").write_text("THAWED")

        assert killed.survivors == (foreign.worker.pid,)
        assert ends(foreign.worker, 5.0)
