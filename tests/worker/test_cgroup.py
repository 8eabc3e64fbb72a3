from __future__ import annotations

import pathlib
import secrets
import time

import pytest

from tests.fakes.processes import Family, ends, eventually, kill
from vllmd.engines.containment import Containment
from vllmd.worker import cgroup as module
from vllmd.worker.tree import Tree


def test_cgroup_is_empty_once_what_was_in_it_is_freed(engine_id: str, cgroups: Containment) -> None:
    """A killed process leaves the list of a cgroup at once, and the cgroup itself only when its memory is gone."""
    cgroup = cgroups.make(engine_id)
    assert cgroup is not None
    with Family("heavy", engine_id, cgroup) as family:
        kill(family.child)
        assert eventually(lambda: str(family.child.pid) not in (cgroup / "cgroup.procs").read_text().split())
        Tree(engine_id, None, cgroup).kill(5.0)

        assert module.remove(cgroup)


def test_cgroup_is_removed_once_nobody_is_in_it(cgroups: Containment) -> None:
    """While somebody is, it stays, and that is told."""
    engine_id = f"t-{secrets.token_hex(6)}"
    cgroup = cgroups.make(engine_id)
    assert cgroup is not None
    with Family("calm", cgroup=cgroup) as family:
        occupied = module.remove(cgroup)
        Tree(engine_id, family.leader, cgroup).kill(5.0)
        assert ends(family.child, 5.0)

    assert not occupied
    assert eventually(lambda: module.remove(cgroup))
    assert not cgroup.exists()
    assert module.remove(cgroup)


def test_wait_for_a_cgroup_that_stays_occupied_ends_in_time(engine_id: str, cgroups: Containment) -> None:
    """And the answer says that somebody is still in it."""
    cgroup = cgroups.make(engine_id)
    assert cgroup is not None
    with Family("calm", engine_id, cgroup) as family:
        assert module.populated(cgroup)
        assert {member.pid for member in family.members} == set(module.pids(cgroup))
        assert not module.await_empty(cgroup, time.monotonic() + 0.05)
        module.kill(cgroup)
        assert module.await_empty(cgroup, time.monotonic() + 5)


def test_cgroup_that_is_gone_holds_nobody(tmp_path: pathlib.Path) -> None:
    """Whoever asks after it, or kills it, is answered all the same."""
    gone = tmp_path / "gone"
    module.kill(gone)

    assert module.pids(gone) == []
    assert not module.populated(gone)
    assert module.remove(gone)


@pytest.mark.parametrize("has_leaf", [True, False])
def test_a_process_leaves_for_the_daemons_leaf_or_for_above(tmp_path: pathlib.Path, has_leaf: bool) -> None:
    """The kernel takes nobody above if controllers are in force below; the files are its own where it is real."""
    engine = tmp_path / "vllmd-1" / "engine-a"
    engine.mkdir(parents=True)
    if has_leaf:
        (tmp_path / module.LEAF).mkdir()
    left = module.leave(engine)
    written = {path.parent for path in tmp_path.rglob("cgroup.procs")}

    assert left
    assert written == {tmp_path / module.LEAF if has_leaf else tmp_path}


def test_who_can_not_leave_is_told(tmp_path: pathlib.Path) -> None:
    """It must not kill the cgroup that it is in."""
    assert not module.leave(tmp_path / "gone" / "vllmd-1" / "engine-a")
