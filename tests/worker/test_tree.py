from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.fakes.processes import Family, ends, eventually, lives, processes_of
from vllmd.engines.containment import Containment
from vllmd.worker import tree
from vllmd.worker.processes import Identity, read_stat
from vllmd.worker.spec import ENGINE_ID_VARIABLE
from vllmd.worker.tree import Tree

MEMBERS_SEEN_FROM_INSIDE = """
import json, os, sys
from vllmd.worker.processes import read_stat
from vllmd.worker.tree import Tree
own = read_stat(os.getpid()).identity
print(json.dumps([own.pid, [stat.identity.pid for stat in Tree(sys.argv[1], own, None).members()]]))
"""


def tree_of(family: Family, engine_id: str, cgroup: pathlib.Path | None) -> Tree:
    """The tree that a family is."""
    return Tree(engine_id, family.leader, cgroup)


@pytest.mark.parametrize("role", ["calm", "escaping"])
def test_kill_ends_everybody(role: str, engine_id: str, containment: Containment) -> None:
    """Also a child that has moved to a session of its own, and each is named in the answer."""
    cgroup = containment.make(engine_id)
    with Family(role, engine_id, cgroup) as family:
        killed = tree_of(family, engine_id, cgroup).kill(5.0)

        assert set(killed.pids) == {member.pid for member in family.members}
        assert killed.survivors == ()
        assert not any(lives(member) for member in family.members)


def test_kill_ends_children_that_are_made_meanwhile(engine_id: str, containment: Containment) -> None:
    """A tree that forks while it is listed does not outrun its end, nor put it off."""
    cgroup = containment.make(engine_id)
    with Family("forking", engine_id, cgroup) as family:
        start = time.monotonic()
        killed = tree_of(family, engine_id, cgroup).kill(10.0)

        assert time.monotonic() - start < 4.0
        assert processes_of(engine_id) == []
        assert killed.survivors == ()
        assert len(killed.pids) > len(family.members)


def test_cgroup_holds_who_shed_marker_and_session(engine_id: str, cgroups: Containment) -> None:
    """Nothing but death leaves a cgroup."""
    cgroup = cgroups.make(engine_id)
    with Family("naked", engine_id, cgroup) as family:
        killed = tree_of(family, engine_id, cgroup).kill(5.0)

        assert family.child.pid in killed.pids
        assert not lives(family.child)


def test_cgroup_holds_who_changes_its_pid_all_the_time(engine_id: str, cgroups: Containment) -> None:
    """By the time such a process has been listed it is another one; the kernel does not have to list it."""
    cgroup = cgroups.make(engine_id)
    assert cgroup is not None
    with Family("hopping", engine_id, cgroup) as family:
        tree_of(family, engine_id, cgroup).kill(5.0)

        assert eventually(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), 1.0)


def test_marker_alone_finds_a_tree_whose_worker_was_never_seen(engine_id: str) -> None:
    """A daemon that died between its spawn and its notes leaves nothing else to go by."""
    with Family("escaping", engine_id) as family:
        killed = Tree(engine_id, None, None).kill(5.0)

        assert set(killed.pids) == {member.pid for member in family.members}


def test_session_finds_who_lost_the_marker_while_the_worker_lives(engine_id: str) -> None:
    """A program that overwrites its environment is still in the worker's session."""
    with Family("calm") as family:
        killed = Tree(engine_id, family.leader, None).kill(5.0)

        assert set(killed.pids) == {member.pid for member in family.members}


def test_session_of_a_worker_that_is_gone_counts_for_nothing(engine_id: str) -> None:
    """Its number may be a stranger's by now."""
    with Family("calm") as family:
        stranger = Identity(family.leader.pid, family.leader.start_ticks - 1)
        killed = Tree(engine_id, stranger, None).kill(5.0)

        assert killed.pids == ()
        assert all(lives(member) for member in family.members)


def test_zombies_are_no_members(engine_id: str) -> None:
    """A dead process that nobody has asked after holds nothing."""
    with Family("calm", engine_id) as family:
        os.kill(family.leader.pid, signal.SIGKILL)
        assert ends(family.leader, 5.0)
        members = Tree(engine_id, family.leader, None).members()
        stat = read_stat(family.leader.pid)

        assert [stat.identity for stat in members] == [family.child]
        assert stat is not None
        assert stat.dead


def test_process_lives_as_long_as_any_of_its_threads(engine_id: str, containment: Containment) -> None:
    """With its first thread gone it looks like a zombie and holds its memory all the same."""
    cgroup = containment.make(engine_id)
    with Family("headless", engine_id, cgroup) as family:
        stat = read_stat(family.child.pid)
        killed = tree_of(family, engine_id, cgroup).kill(5.0)
        after = read_stat(family.child.pid)

        assert stat is not None
        assert (stat.state, stat.dead) == ("Z", False)
        assert family.child.pid in killed.pids
        assert after is None or after.dead


def test_stopped_tree_is_killed_too(engine_id: str, containment: Containment) -> None:
    """SIGKILL needs nobody's cooperation."""
    cgroup = containment.make(engine_id)
    with Family("calm", engine_id, cgroup) as family:
        for member in family.members:
            os.kill(member.pid, signal.SIGSTOP)
        killed = tree_of(family, engine_id, cgroup).kill(5.0)

        assert killed.survivors == ()
        assert not any(lives(member) for member in family.members)


def test_tree_that_is_gone_is_killed_at_once(engine_id: str, containment: Containment) -> None:
    """An engine that ended by itself leaves nothing to kill, and a cgroup that was removed nobody in it."""
    path = containment.path(engine_id)
    start = time.monotonic()

    assert Tree(engine_id, Identity(2**22 - 1, 1), path).kill(5.0) == tree.Killed((), ())
    assert time.monotonic() - start < 2.0


def test_namesake_is_left_alone(engine_id: str) -> None:
    """A process is never judged by what it is called: somebody else's EngineCore is not ours."""
    with Family("named", "somebody-else") as decoy, Family("named", engine_id) as family:
        Tree(engine_id, family.leader, None).kill(5.0)
        decoy_stat = read_stat(decoy.child.pid)

        assert decoy_stat is not None
        assert decoy_stat.name == "VLLM::EngineCor"
        assert all(lives(member) for member in decoy.members)
        assert not any(lives(member) for member in family.members)


def test_marker_must_match_whole() -> None:
    """An engine whose id begins like ours is another engine."""
    with Family("calm", "t-prefix-and-more") as other:
        Tree("t-prefix", None, None).kill(5.0)

        assert all(lives(member) for member in other.members)


def test_process_is_never_in_its_own_tree(engine_id: str) -> None:
    """A worker that ends its tree has to outlive it, though it carries the marker and leads the session."""
    environment = os.environ | {ENGINE_ID_VARIABLE: engine_id}
    argv = [sys.executable, "-c", MEMBERS_SEEN_FROM_INSIDE, engine_id]
    output = subprocess.check_output(argv, env=environment, start_new_session=True)
    own, members = json.loads(output)

    assert own not in members


def test_what_sigkill_does_not_end_is_told(engine_id: str, frozen: pathlib.Path) -> None:
    """A process that is stuck in the kernel is named as a survivor, once the time is over."""
    with Family("calm", engine_id) as family:
        (frozen / "cgroup.procs").write_text(str(family.child.pid))
        (frozen / "freezer.state").write_text("FROZEN")
        assert eventually(lambda: (frozen / "freezer.state").read_text() == "FROZEN\n")
        killed = Tree(engine_id, family.leader, None).kill(0.5)
        (frozen / "freezer.state").write_text("THAWED")

        assert family.child.pid in killed.survivors
        assert set(killed.pids) == {member.pid for member in family.members}
        assert ends(family.child, 5.0)
