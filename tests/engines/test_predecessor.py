from __future__ import annotations

import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from tests.fakes.predecessors import ended
from tests.fakes.processes import Family, eventually, lives, processes_of
from vllmd.engines import directory
from vllmd.engines.containment import Containment
from vllmd.engines.predecessor import half_ended, reclaim_all, remnant, survivor
from vllmd.events import Events, Kind
from vllmd.gpu.ledger import Expectation
from vllmd.gpu.monitor import GpuMonitor
from vllmd.tasks import spawn
from vllmd.worker.processes import boot_id, signal_to
from vllmd.worker.spec import LOG, SPEC, Held, Progress, Spec, append_progress, read_progress
from vllmd.worker.tree import Tree

DAEMON = """
import asyncio, pathlib, signal, sys
from vllmd.engines.containment import Containment
from vllmd.config import Live
from vllmd.engines.ground import Ground
from vllmd.engines.launch import launch
from vllmd.planner.choice import Choice
from vllmd.planner.planning import Plan
root, engine_id, base = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
ground = Ground(root=root, cache=root, python=pathlib.Path(sys.executable), backend="fake",
    containment=Containment(pathlib.Path(base) if base else None), monitor=None, version="0", live=Live())
choices = {"fake_load_seconds": 0.05, "fake_workers": 2, "fake_escape": True, "fake_leave_core": True}
plan = Plan(tuple(Choice(*pair, "client", "") for pair in choices.items()), ())
owned, process = launch(engine_id, "m", plan, (), ground)
print(flush=True)
signal.pause()
"""


def shared_memory(engine_id: str) -> list[pathlib.Path]:
    """What an engine has in /dev/shm."""
    return list(pathlib.Path("/dev/shm").glob(f"*{engine_id}*"))


class Daemon:
    """A daemon with one engine, whose core dies with nobody."""

    def __init__(self, root: pathlib.Path, engine_id: str, containment: Containment) -> None:
        cgroup = containment.path(engine_id)
        argv = [sys.executable, "-c", DAEMON, str(root), engine_id, str(cgroup.parent) if cgroup else ""]
        self._popen = subprocess.Popen(argv, stdout=subprocess.PIPE)
        try:
            assert eventually(lambda: "listening" in [p.event for p in read_progress(root / engine_id)], 10.0)
            assert eventually(lambda: len(processes_of(engine_id)) == 4)
            assert eventually(lambda: shared_memory(engine_id))
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL."""
        self._popen.kill()
        self._popen.communicate()


async def test_engine_of_a_daemon_that_was_killed_is_ended(
    root: pathlib.Path, engine_id: str, containment: Containment, monitor: GpuMonitor
) -> None:
    """Before the next daemon calls itself ready nothing of it is left."""
    Daemon(root, engine_id, containment).kill()
    alive = len(processes_of(engine_id))
    events = Events()
    (report,) = await ended(root, monitor, events=events)
    cgroup = containment.path(engine_id)
    kill, reclaim = events.after(0)[0]

    assert alive == 4
    assert (report.verified, report.killed) == (True, 4)
    assert processes_of(engine_id) == []
    assert shared_memory(engine_id) == []
    assert list(root.iterdir()) == []
    assert cgroup is None or not cgroup.exists()
    assert (kill.kind, reclaim.kind) == (Kind.KILL, Kind.RECLAIM)
    assert reclaim.message == report.summary
    assert kill.reasons == reclaim.reasons == ("its daemon is gone, and no journal says that it is to go on",)
    assert kill.engine == reclaim.engine == engine_id
    assert kill.pids == reclaim.pids == report.pids


async def test_an_engine_that_is_half_ended_is_ended(
    root: pathlib.Path, engine_id: str, containment: Containment, monitor: GpuMonitor
) -> None:
    """Its daemon had stopped the tree, to list it and to kill it, and died in between: nobody else wakes it again."""
    daemon = Daemon(root, engine_id, containment)
    tree = Tree(engine_id, None, containment.path(engine_id), root / engine_id)
    before = half_ended(tree)
    signal_to(tree.members()[-1].identity, signal.SIGSTOP)
    assert eventually(lambda: half_ended(tree))
    daemon.kill()
    found = survivor(root / engine_id)
    (report,) = await ended(root, monitor)

    assert not before
    assert found is None
    assert (report.verified, report.killed) == (True, 4)
    assert processes_of(engine_id) == []


async def test_engine_of_a_daemon_that_lives_is_left_alone(
    root: pathlib.Path, engine_id: str, containment: Containment, monitor: GpuMonitor
) -> None:
    """It holds the lock, so it answers for the engine."""
    daemon = Daemon(root, engine_id, containment)
    reports = await ended(root, monitor)
    alive = len(processes_of(engine_id))
    daemon.kill()
    await ended(root, monitor)

    assert reports == []
    assert alive == 4


@pytest.mark.parametrize("spec", [None, b"", b'{"engine_id": "half'])
async def test_directory_of_a_daemon_that_died_at_once_is_removed(
    root: pathlib.Path, engine_id: str, monitor: GpuMonitor, spec: bytes | None
) -> None:
    """It may not even have written down what it was about to start; beside it, a file is nobody's engine."""
    (root / engine_id).mkdir()
    (root / "README").touch()
    if spec is not None:
        (root / engine_id / SPEC).write_bytes(spec)
    events = Events()
    (report,) = await ended(root, monitor, events=events)
    (told,) = events.after(0)[0]

    assert report.verified
    assert (told.kind, told.reasons) == (Kind.RECLAIM, ("its daemon is gone, and so is its worker",))
    assert [path.name for path in root.iterdir()] == ["README"]


async def test_pid_from_another_boot_means_nothing(root: pathlib.Path, engine_id: str, monitor: GpuMonitor) -> None:
    """Whoever has it now is left alone; its session is not the engine's."""
    directory.create(root, Spec(engine_id, "fake", "m", {}, None, 60.0, "0", "another boot")).disown()
    with Family("calm") as stranger:
        append_progress(root / engine_id, Progress("started", stranger.leader.pid, stranger.leader.start_ticks))
        (report,) = await ended(root, monitor)

        assert (report.verified, report.killed) == (True, 0)
        assert all(lives(member) for member in stranger.members)


async def test_tree_that_ends_itself_meanwhile_is_no_error(root: pathlib.Path, monitor: GpuMonitor) -> None:
    """Its lifeline takes the directory along while others are being reclaimed."""
    (root / "e-1").mkdir()
    (root / "e-2").mkdir()

    async def end() -> None:
        shutil.rmtree(root / "e-2")

    spawn("end", end())
    reports = await ended(root, monitor)

    assert [report.verified for report in reports] == [True, True]
    assert list(root.iterdir()) == []


async def test_engines_are_ended_one_by_one_and_all_of_them(root: pathlib.Path, monitor: GpuMonitor) -> None:
    """A daemon may leave many, and one that can't be cleared up does not keep the others."""
    for name in ("e-1", "e-2", "e-3"):
        (root / name).mkdir()
        (root / name / LOG).touch()
    taken = directory.own(root / "e-2")
    reports = await ended(root, monitor)
    taken.disown()

    assert len(reports) == 2
    assert [path.name for path in root.iterdir()] == ["e-2"]


async def test_without_a_predecessor_there_is_nothing_to_do(root: pathlib.Path, monitor: GpuMonitor) -> None:
    """As after every boot."""
    assert await ended(root, monitor) == []


async def test_cgroup_of_a_daemon_that_died_before_it_wrote_anything_is_removed(
    root: pathlib.Path, monitor: GpuMonitor, cgroups: Containment
) -> None:
    """It is made before all else: there may be no directory to it, or one without a spec."""
    made = [cgroups.make("e-1"), cgroups.make("e-2"), cgroups.make("e-3")]
    (root / "e-2" / "tmp").mkdir(parents=True)
    kept = await reclaim_all(root, cgroups, monitor, 5.0, Events(), adopted=["e-3"])

    assert [one.remains.tree.engine_id for one in kept] == ["e-2", "e-1"]
    assert all(one.report.verified for one in kept)
    assert [cgroup.exists() for cgroup in made if cgroup is not None] == [False, False, True]
    assert list(root.iterdir()) == []


def test_what_is_left_of_an_engine_is_taken_hold_of(root: pathlib.Path, containment: Containment) -> None:
    """With its log and its errors; there may be nothing but a name, and it may be another daemon's."""
    spec = Spec("e-1", "fake", "m", {}, None, 60.0, "0", boot_id(), (Held("GPU-0", 5),))
    directory.create(root, spec).disown()
    (root / "e-1" / LOG).write_text("one\ntwo\n")
    append_progress(root / "e-1", Progress("failed", 1, errors=("ValueError: no",)))
    left = remnant(root / "e-1", containment)
    assert left is not None
    second = remnant(root / "e-1", containment)
    left.disown()
    nothing = remnant(root / "e-2", containment)

    assert (left.lines(1), left.errors()) == (["two"], ("ValueError: no",))
    assert left.remains.expected == (Expectation("GPU-0", 5),)
    assert second is None
    assert nothing is not None
    assert (nothing.owned, nothing.lines(1), nothing.errors()) == (None, [], ())
    assert nothing.remains.tree.cgroup == containment.path("e-2")
    nothing.disown()


def test_what_is_no_engines_is_not_taken_hold_of(root: pathlib.Path, containment: Containment) -> None:
    """Somebody keeps something in its place."""
    (root / "e-1").mkdir()
    (root / "e-1" / "thesis").touch()

    assert remnant(root / "e-1", containment) is None
    assert [path.name for path in (root / "e-1").iterdir()] == ["thesis"]
