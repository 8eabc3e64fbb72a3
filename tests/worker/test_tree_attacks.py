"""What tries to be taken for an engine's, and what tries to get away."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.fakes.processes import Family, eventually, lives
from vllmd.engines.containment import Containment
from vllmd.worker.processes import Identity, read_stat
from vllmd.worker.spec import ENGINE_DIR_VARIABLE, ENGINE_ID_VARIABLE
from vllmd.worker.tree import Tree

NOBODY = 65534


@contextlib.contextmanager
def impostor(engine_id: str, directory: pathlib.Path) -> Iterator[Identity]:
    """A process of another user with our whole marker, which ends once its input does."""
    popen = subprocess.Popen(
        ["/bin/cat"],
        env={ENGINE_ID_VARIABLE: engine_id, ENGINE_DIR_VARIABLE: str(directory)},
        stdin=subprocess.PIPE,
        user=NOBODY,
    )
    try:
        stat = read_stat(popen.pid)
        assert stat is not None
        assert eventually(pathlib.Path(f"/proc/{popen.pid}/environ").read_bytes)
        yield stat.identity
    finally:
        popen.communicate()


@contextlib.contextmanager
def contained(engine_id: str, directory: pathlib.Path, *, mounted: bool) -> Iterator[Identity]:
    """A process with our marker in a mount namespace of its own, in which something else may be in that place."""
    mount = f"mount -t tmpfs none {directory.parent}; " if mounted else ""
    popen = subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", f"{mount}echo; exec cat"],
        env={"PATH": os.environ["PATH"], ENGINE_ID_VARIABLE: engine_id, ENGINE_DIR_VARIABLE: str(directory)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert popen.stdout is not None
        assert popen.stdout.readline() == b"\n"
        stat = read_stat(popen.pid)
        assert stat is not None
        yield stat.identity
    finally:
        popen.communicate()


def all_gone(family: Family, seconds: float) -> bool:
    """Wait until nobody has a family's output open any more, however often they change their pids."""
    assert family.popen.stdout is not None
    poller = select.poll()
    poller.register(family.popen.stdout, 0)  # a hang-up is told unasked
    return bool(poller.poll(seconds * 1000))


def test_same_id_in_another_directory_is_another_engine(engine_id: str, tmp_path: pathlib.Path) -> None:
    """Two daemons of one user may have engines of one id; each ends its own."""
    ours, theirs = tmp_path / "ours" / engine_id, tmp_path / "theirs" / engine_id
    with (
        Family("escaping", engine_id, directory=theirs) as other,
        Family("escaping", engine_id) as nowhere,
        Family("escaping", engine_id, directory=ours) as own,
    ):
        killed = Tree(engine_id, None, None, ours).kill(5.0)

        assert set(killed.pids) == {member.pid for member in own.members}
        assert all(lives(member) for member in (*other.members, *nowhere.members))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start another user's process")
@pytest.mark.parametrize("any_directory", [True, False])
def test_process_of_another_user_is_never_ours(engine_id: str, tmp_path: pathlib.Path, any_directory: bool) -> None:
    """Anybody can set variables: a root daemon must not kill for them."""
    with impostor(engine_id, tmp_path) as stranger:
        tree = Tree(engine_id, None, None, None if any_directory else tmp_path)
        members = tree.members()
        killed = tree.kill(1.0)

        assert (members, killed.pids) == ([], ())
        assert lives(stranger)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_same_directory_of_another_container_is_another_engine(engine_id: str, tmp_path: pathlib.Path) -> None:
    """With `--pid=host`, two containers see each other's processes, and each has its own /run/vllmd."""
    directory = tmp_path / engine_id
    with contained(engine_id, directory, mounted=True) as stranger:
        tree = Tree(engine_id, None, None, directory)
        members = tree.members()
        killed = tree.kill(1.0)

        assert (members, killed.pids) == ([], ())
        assert lives(stranger)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_same_directory_in_another_mount_namespace_is_ours(engine_id: str, tmp_path: pathlib.Path) -> None:
    """A service has a new mount namespace after each restart, and its engines stay in the old one."""
    directory = tmp_path / engine_id
    with contained(engine_id, directory, mounted=False) as own:
        assert [stat.identity for stat in Tree(engine_id, None, None, directory).members()] == [own]


@pytest.mark.parametrize("role", ["racing", "hopping", "strolling"])
def test_kill_of_who_forks_on_and_on_comes_to_an_end(engine_id: str, containment: Containment, role: str) -> None:
    """A tree in which each process makes the next and ends does not hold up who ends it, nor does it leave a cgroup."""
    cgroup = containment.make(engine_id)
    with Family(role, engine_id, cgroup) as family:
        start = time.monotonic()
        killed = Tree(engine_id, family.leader, cgroup).kill(1.0)
        elapsed = time.monotonic() - start

        assert elapsed < 3.0
        assert killed.survivors == ()
        assert cgroup is None or all_gone(family, 0.5)
