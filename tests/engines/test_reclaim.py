from __future__ import annotations

import asyncio
import os
import pathlib
import re

import pytest

from tests.fakes.fake_gpus import GIB
from tests.fakes.held_gpus import HeldGpus
from tests.fakes.processes import Family, ends, eventually, lives, processes_of
from vllmd.engines.containment import Containment
from vllmd.engines.reclaim import GpuReclaim, Remains, reclaim
from vllmd.gpu.inventory import Gpu
from vllmd.gpu.ledger import Expectation, Ledger
from vllmd.gpu.monitor import GpuMonitor
from vllmd.tasks import spawn
from vllmd.worker.processes import Identity, read_stat
from vllmd.worker.tree import Tree

ENDED = Identity(7, 1)
"""Of a process that ended long ago; the pid is somebody else's by now, if anybody's."""


@pytest.fixture
def directory(root: pathlib.Path, engine_id: str) -> pathlib.Path:
    """The engine's directory, with something in it."""
    path = root / engine_id
    (path / "tmp").mkdir(parents=True)
    return path


async def expected_of(monitor: GpuMonitor) -> tuple[Expectation, ...]:
    """What the GPUs should hold, as nobody whose end is to be awaited has anything now."""
    return tuple(map(Ledger().expectation, await gpus_of(monitor)))


async def gpus_of(monitor: GpuMonitor) -> tuple[Gpu, ...]:
    """All GPUs as they are now."""
    return (await monitor.snapshot()).gpus


@pytest.mark.parametrize("tells_shares", [True, False])
async def test_everything_is_taken_back_and_proven(
    engine_id: str, containment: Containment, directory: pathlib.Path, gpus: HeldGpus, monitor: GpuMonitor,
    tells_shares: bool,
) -> None:  # fmt: skip
    """Processes, memory, shared memory, files and cgroup, with the figures of it."""
    gpus.tells_shares = tells_shares
    shared_memory = pathlib.Path(f"/dev/shm/psm_vllmd-{engine_id}_1")
    shared_memory.touch()
    cgroup = containment.make(engine_id)
    expected = await expected_of(monitor)
    with Family("escaping", engine_id, cgroup) as family:
        gpus.hold("GPU-0", family.leader, 2 * GIB)
        gpus.hold("GPU-1", family.child, 3 * GIB)
        loaded = await gpus_of(monitor)
        remains = Remains(Tree(engine_id, family.leader, cgroup), directory, (ENDED,), expected, loaded)
        report = await reclaim(remains, monitor, 5.0)

        assert not any(lives(member) for member in family.members)
        assert read_stat(family.leader.pid) is None  # reaped, being a child of ours
    assert report.verified
    assert report.summary == "Gone: 2 processes killed, 5.00 GiB of GPU memory back."
    assert report.pids == tuple(sorted({ENDED.pid, *(member.pid for member in family.members)}))
    assert report.killed == 2
    assert report.gpus == (GpuReclaim("GPU-0", 3 * GIB, GIB), GpuReclaim("GPU-1", 4 * GIB, GIB))
    assert report.removed == (str(shared_memory),)
    assert not shared_memory.exists()
    assert not directory.exists()
    assert cgroup is None or not cgroup.exists()


async def test_engine_that_ended_by_itself_is_reclaimed_as_well(
    engine_id: str, directory: pathlib.Path, monitor: GpuMonitor
) -> None:
    """Nothing is left to kill, and what there is to remove is removed."""
    report = await reclaim(Remains(Tree(engine_id, None, None), directory), monitor, 5.0)

    assert (report.verified, report.summary, report.killed) == (True, "Gone: ended by itself.", 0)
    assert not directory.exists()


async def test_neighbour_that_grows_meanwhile_is_not_waited_for(
    engine_id: str, directory: pathlib.Path, gpus: HeldGpus, monitor: GpuMonitor
) -> None:
    """Another engine's memory is no leak of this one."""
    with Family("calm") as neighbour, Family("calm", engine_id) as family:
        share = gpus.hold("GPU-0", neighbour.leader, GIB)
        expected = await expected_of(monitor)
        gpus.hold("GPU-0", family.child, 4 * GIB)
        share.size = 10 * GIB
        remains = Remains(Tree(engine_id, family.leader, None), directory, (), expected)
        report = await reclaim(remains, monitor, 5.0)

        assert report.verified
        assert all(lives(member) for member in neighbour.members)


async def test_memory_that_comes_late_is_waited_for(
    engine_id: str, directory: pathlib.Path, gpus: HeldGpus, monitor: GpuMonitor
) -> None:
    """The driver takes its time after the process is gone; here until another one is."""
    expected = await expected_of(monitor)
    with Family("calm") as driver, Family("calm", engine_id) as family:
        listed = Identity(driver.leader.pid, 1)
        remains = Remains(Tree(engine_id, family.leader, None), directory, (listed,), expected)
        gpus.hold("GPU-0", driver.leader)
        gpus.on_snapshot(5, lambda: os.kill(driver.leader.pid, 9))
        report = await reclaim(remains, monitor, 5.0)

    assert report.verified
    assert report.memory_seconds >= 0.2


async def test_driver_that_hangs_does_not_put_off_the_kill(
    engine_id: str, directory: pathlib.Path, gpus: HeldGpus, monitor: GpuMonitor
) -> None:
    """A look before it is taken beside it; the proof waits until the driver answers again."""
    expected = await expected_of(monitor)
    with Family("calm", engine_id) as family:
        gpus.answering.clear()
        remains = Remains(Tree(engine_id, family.leader, None), directory, (), expected)
        reclaiming = spawn("reclaim", reclaim(remains, monitor, 5.0))
        ended = await asyncio.to_thread(ends, family.child, 3.0)
        waiting = not reclaiming.done()
        gpus.answering.set()

        assert ended
        assert waiting
        assert (await reclaiming).verified


@pytest.mark.parametrize(
    ("how", "why", "kept"), [("kept", "", ("GPU-0", "GPU-1")), ("off the bus", ", as GPU-1 can't be read", ("GPU-1",))]
)
async def test_memory_that_does_not_come_back_is_told(
    engine_id: str,
    directory: pathlib.Path,
    gpus: HeldGpus,
    monitor: GpuMonitor,
    how: str,
    why: str,
    kept: tuple[str, ...],
) -> None:
    """The engine is not proven to be gone; by its directory a later daemon would look for its memory again."""
    expected = await expected_of(monitor)
    if how == "kept":
        gpus.driver_bytes += GIB
    else:
        gpus.missing.add("GPU-1")
    with Family("calm", engine_id) as family:
        remains = Remains(Tree(engine_id, family.leader, None), directory, (), expected)
        report = await reclaim(remains, monitor, 0.3)

    assert not report.verified
    assert report.summary == f"Not proven to be gone: NVML does not show its memory back{why}."
    assert report.kept == kept
    assert report.killed == 2
    assert 0.3 <= report.memory_seconds < 5
    assert processes_of(engine_id) == []
    assert directory.exists()


async def test_process_that_can_not_be_killed_is_told_and_keeps_its_files(
    engine_id: str, directory: pathlib.Path, monitor: GpuMonitor, frozen: pathlib.Path
) -> None:
    """It may still use them."""
    with Family("calm", engine_id) as family:
        (frozen / "cgroup.procs").write_text(str(family.child.pid))
        (frozen / "freezer.state").write_text("FROZEN")
        assert eventually(lambda: (frozen / "freezer.state").read_text() == "FROZEN\n")
        report = await reclaim(Remains(Tree(engine_id, family.leader, None), directory), monitor, 0.5)
        (frozen / "freezer.state").write_text("THAWED")

    assert not report.verified
    assert re.search(rf"SIGKILL did not end \d of its processes \(.*\b{family.child.pid}\b.*\)", report.summary)
    assert report.killed < len(report.pids) == 2
    assert directory.exists()


async def test_directory_that_can_not_be_removed_is_told(
    engine_id: str, directory: pathlib.Path, monitor: GpuMonitor
) -> None:
    """A file in its place is as good a reason as any."""
    (directory / "tmp").rmdir()
    directory.rmdir()
    directory.touch()
    report = await reclaim(Remains(Tree(engine_id, None, None), directory), monitor, 1.0)

    assert not report.verified
    assert "its directory can't be removed" in report.summary


async def test_stranger_in_the_cgroup_goes_with_it(
    engine_id: str, cgroups: Containment, directory: pathlib.Path, monitor: GpuMonitor
) -> None:
    """Whatever is in an engine's cgroup is the engine's; the cgroup is empty and gone afterwards."""
    cgroup = cgroups.make(engine_id)
    with Family("naked", cgroup=cgroup) as family:
        report = await reclaim(Remains(Tree(engine_id, None, cgroup), directory), monitor, 5.0)

        assert report.verified
        assert not any(lives(member) for member in family.members)
    assert cgroup is not None
    assert not cgroup.exists()
