from __future__ import annotations

import fcntl
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from tests.fakes.processes import ends, eventually, kill, processes_of
from vllmd.engines.containment import Containment
from vllmd.worker import lifeline
from vllmd.worker.lifeline import Ownership
from vllmd.worker.processes import Identity, marker, processes
from vllmd.worker.spec import ENGINE_DIR_VARIABLE, ENGINE_ID_VARIABLE, OWNER_LOCK, SPEC, Spec, read_progress

OWNER = (
    "import fcntl, signal, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); signal.pause()"
)


class Orphanage:
    """A worker with a fake engine, and another process that owns it."""

    def __init__(self, root: pathlib.Path, engine_id: str, cgroup: pathlib.Path | None) -> None:
        self.engine_id = engine_id
        self.directory = root / engine_id
        self.directory.mkdir()
        (self.directory / OWNER_LOCK).touch()
        self.cgroup = cgroup
        argv = [sys.executable, "-S", "-c", OWNER, str(self.directory / OWNER_LOCK)]
        self.owner = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self.owner.stdout is not None
        self.owner.stdout.readline()
        self._workers: list[subprocess.Popen[bytes]] = []

    def start(self, adoption_timeout: float, **engine_args: object) -> subprocess.Popen[bytes]:
        """Start the worker, and wait until its core is there and all that it does at start is done."""
        options = {"fake_load_seconds": 0.02, "fake_escape": True, "fake_workers": 1} | engine_args
        cgroup = str(self.cgroup) if self.cgroup else None
        spec = Spec(self.engine_id, "fake", "m", options, cgroup, adoption_timeout, "0", "b")
        (self.directory / SPEC).write_bytes(msgspec.json.encode(spec))
        worker = subprocess.Popen(
            [sys.executable, "-m", "vllmd.worker", str(self.directory)],
            env=os.environ | {ENGINE_ID_VARIABLE: self.engine_id, ENGINE_DIR_VARIABLE: str(self.directory)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._workers.append(worker)
        last = "initializing" if "fake_hang_phase" in engine_args else "listening"
        assert eventually(lambda: last in [progress.event for progress in read_progress(self.directory)], 10.0)
        assert eventually(lambda: len(processes_of(self.engine_id)) == 3)
        assert eventually(self.shared_memory)
        return worker

    def shared_memory(self) -> list[pathlib.Path]:
        """What the engine has in /dev/shm."""
        return list(pathlib.Path("/dev/shm").glob(f"*{self.engine_id}*"))

    def disown(self) -> None:
        """Let the owner die as a daemon does that is killed."""
        self.owner.kill()
        self.owner.wait()

    def kill_core(self) -> None:
        """`kill -9` of EngineCore alone."""
        own = [stat for stat in processes() if (marker(stat.identity.pid) or ("",))[0] == self.engine_id]
        (core,) = [stat.identity for stat in own if stat.name == "VLLM::EngineCor"]
        kill(core)

    def close(self) -> None:
        """End whatever the test has not."""
        self.owner.kill()
        self.owner.communicate()
        for worker in self._workers:
            worker.kill()
            worker.wait()


@pytest.fixture
def orphanage(runtime: pathlib.Path, engine_id: str, containment: Containment) -> Iterator[Orphanage]:
    """An engine to be orphaned, in both kinds of containment."""
    orphanage = Orphanage(runtime, engine_id, containment.make(engine_id))
    yield orphanage
    orphanage.close()


@pytest.mark.parametrize("state", [{}, {"fake_hang_phase": "compiling"}], ids=["ready", "loading"])
def test_tree_ends_itself_once_its_daemon_is_dead(orphanage: Orphanage, state: dict[str, object]) -> None:
    """Whatever the engine is busy with, nothing of it is left after the adoption timeout."""
    worker = orphanage.start(0.2, **state)
    orphanage.owner.kill()

    assert worker.wait(5) == lifeline.EXIT_STATUS
    assert processes_of(orphanage.engine_id) == []
    assert orphanage.shared_memory() == []
    assert not orphanage.directory.exists()
    assert orphanage.cgroup is None or eventually(lambda: not orphanage.cgroup.exists())  # type: ignore[union-attr]


def test_tree_lives_on_while_somebody_owns_it(orphanage: Orphanage) -> None:
    """The timeout runs only while the lock is free, however long the engine has been there."""
    worker = orphanage.start(0.1)
    identity = Identity(worker.pid, read_progress(orphanage.directory)[0].start_ticks)

    assert not ends(identity, 0.5)
    assert len(processes_of(orphanage.engine_id)) == 3


def test_worker_that_nobody_owns_cleans_up_when_its_core_dies(orphanage: Orphanage) -> None:
    """It leaves long before the adoption timeout, and who comes later would find only what it left."""
    worker = orphanage.start(600.0)
    orphanage.disown()
    orphanage.kill_core()

    assert worker.wait(10) == lifeline.EXIT_STATUS
    assert processes_of(orphanage.engine_id) == []
    assert orphanage.shared_memory() == []
    assert not orphanage.directory.exists()
    assert orphanage.cgroup is None or eventually(lambda: not orphanage.cgroup.exists())  # type: ignore[union-attr]


def test_worker_that_is_owned_leaves_the_clean_up_to_its_owner(orphanage: Orphanage) -> None:
    """The daemon reads why the core died from what is in the directory, and proves the end itself."""
    worker = orphanage.start(600.0)
    orphanage.kill_core()

    assert worker.wait(10) == 1
    assert orphanage.directory.exists()
    assert orphanage.shared_memory() != []


def test_tree_whose_directory_was_taken_away_ends_at_once(orphanage: Orphanage) -> None:
    """Nobody could find it any more; the owner's lock and the time that is left do not matter."""
    worker = orphanage.start(3600)
    orphanage.directory.rename(orphanage.directory.with_name("elsewhere"))

    assert worker.wait(5) == lifeline.EXIT_STATUS
    assert processes_of(orphanage.engine_id) == []


def test_next_daemon_in_time_keeps_the_tree(orphanage: Orphanage) -> None:
    """Who takes the lock within the timeout has adopted the engine."""
    worker = orphanage.start(0.6)
    identity = Identity(worker.pid, read_progress(orphanage.directory)[0].start_ticks)
    with (orphanage.directory / OWNER_LOCK).open() as lock:
        orphanage.owner.send_signal(signal.SIGKILL)
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert not ends(identity, 0.9)


def test_time_without_an_owner_counts_from_when_it_was_first_seen(tmp_path: pathlib.Path) -> None:
    """Nothing can be known of the time before, so that does not count."""
    lock = tmp_path / OWNER_LOCK
    lock.touch()
    ownership = Ownership(lock)

    assert [ownership.unowned_seconds(now) for now in (100.0, 101.5, 103.0)] == [0.0, 1.5, 3.0]


def test_owner_starts_the_time_anew(tmp_path: pathlib.Path) -> None:
    """Each daemon that dies gives its engines the whole adoption timeout."""
    lock = tmp_path / OWNER_LOCK
    lock.touch()
    ownership = Ownership(lock)
    ownership.unowned_seconds(100.0)
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        owned = ownership.unowned_seconds(109.0)

    assert owned == 0.0
    assert [ownership.unowned_seconds(now) for now in (110.0, 111.0)] == [0.0, 1.0]


def test_looking_does_not_take_the_lock(tmp_path: pathlib.Path) -> None:
    """A daemon that comes after the look finds the lock free."""
    lock = tmp_path / OWNER_LOCK
    lock.touch()
    ownership = Ownership(lock)
    ownership.unowned_seconds(100.0)
    with lock.open() as taken:
        fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)

        assert ownership.unowned_seconds(101.0) == 0.0


def test_lock_that_is_gone_has_been_free_for_ever(tmp_path: pathlib.Path) -> None:
    """An engine without a directory belongs to nobody."""
    lock = tmp_path / OWNER_LOCK
    lock.touch()
    ownership = Ownership(lock)
    lock.unlink()

    assert ownership.unowned_seconds(100.0) == float("inf")
