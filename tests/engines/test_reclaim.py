from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
import re

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.held_gpus import HeldGpus
from tests.fakes.processes import Family, ends, eventually, lives, processes_of
from vllmd.engines.containment import Containment
from vllmd.engines.reclaim import TOLERANCE_BYTES, GpuReclaim, Remains, is_back, reclaim
from vllmd.gpu.inventory import Gpu, GpuProcess
from vllmd.gpu.monitor import GpuMonitor
from vllmd.tasks import spawn
from vllmd.worker.processes import read_stat
from vllmd.worker.tree import Tree

OURS = frozenset({100, 101})


def held(used: int, *processes: tuple[int, int | None]) -> Gpu:
    """A GPU with so much in use, and what NVML says of who has it."""
    return dataclasses.replace(gpu(used=used), processes=tuple(GpuProcess(*process) for process in processes))


BACK = [
    # What our processes had is gone, and the driver's bookkeeping moved a little.
    (held(GIB), held(GIB + TOLERANCE_BYTES), True),
    (held(GIB), held(GIB + TOLERANCE_BYTES + 1), False),
    # Ours is still in the driver's list, whatever it says of its memory.
    (held(GIB), held(GIB, (100, 0)), False),
    (held(GIB), held(GIB, (100, None)), False),
    # A neighbour grew, came or went: its memory is its own affair.
    (held(3 * GIB, (7, 2 * GIB)), held(9 * GIB, (7, 8 * GIB)), True),
    (held(GIB), held(5 * GIB, (7, 4 * GIB)), True),
    (held(3 * GIB, (7, 2 * GIB)), held(GIB), True),
    # A neighbour went while memory that nobody accounts for is still there: totals would look fine.
    (held(9 * GIB, (7, 8 * GIB)), held(5 * GIB), False),
    # Without shares only the totals are left to go by, before or now.
    (held(3 * GIB, (7, None)), held(3 * GIB, (7, None)), True),
    (held(3 * GIB, (7, None)), held(5 * GIB, (7, None)), False),
    (held(3 * GIB, (7, None)), held(5 * GIB, (7, 4 * GIB)), False),
    (held(3 * GIB, (7, 2 * GIB)), held(3 * GIB, (7, None)), True),
    (held(3 * GIB, (7, None)), held(2 * GIB, (7, None)), True),
]


@pytest.mark.parametrize(("baseline", "now", "expected"), BACK)
def test_memory_is_back_when_nobody_unknown_has_it(baseline: Gpu, now: Gpu, expected: bool) -> None:
    """Neighbours are told apart from what ours may have left, as well as NVML lets us."""
    assert is_back(now, baseline, OURS) is expected


@pytest.fixture
def directory(root: pathlib.Path, engine_id: str) -> pathlib.Path:
    """The engine's directory, with something in it."""
    path = root / engine_id
    (path / "tmp").mkdir(parents=True)
    return path


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
    baseline = await gpus_of(monitor)
    with Family("escaping", engine_id, cgroup) as family:
        gpus.hold("GPU-0", family.leader, 2 * GIB)
        gpus.hold("GPU-1", family.child, 3 * GIB)
        loaded = await gpus_of(monitor)
        remains = Remains(Tree(engine_id, family.leader, cgroup), directory, (7,), baseline, loaded)
        report = await reclaim(remains, monitor, 5.0)

        assert not any(lives(member) for member in family.members)
        assert read_stat(family.leader.pid) is None  # reaped, being a child of ours
    assert report.verified
    assert report.summary == "Gone: 2 processes killed, 5.00 GiB of GPU memory back."
    assert report.pids == tuple(sorted({7, *(member.pid for member in family.members)}))
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
        baseline = await gpus_of(monitor)
        gpus.hold("GPU-0", family.child, 4 * GIB)
        share.size = 10 * GIB
        remains = Remains(Tree(engine_id, family.leader, None), directory, (), baseline)
        report = await reclaim(remains, monitor, 5.0)

        assert report.verified
        assert all(lives(member) for member in neighbour.members)


async def test_memory_that_comes_late_is_waited_for(
    engine_id: str, directory: pathlib.Path, gpus: HeldGpus, monitor: GpuMonitor
) -> None:
    """The driver takes its time after the process is gone; here until another one is."""
    baseline = await gpus_of(monitor)
    with Family("calm") as driver, Family("calm", engine_id) as family:
        remains = Remains(Tree(engine_id, family.leader, None), directory, (driver.leader.pid,), baseline)
        gpus.hold("GPU-0", driver.leader)
        gpus.on_snapshot(5, lambda: os.kill(driver.leader.pid, 9))
        report = await reclaim(remains, monitor, 5.0)

    assert report.verified
    assert report.memory_seconds >= 0.2


async def test_driver_that_hangs_does_not_put_off_the_kill(
    engine_id: str, directory: pathlib.Path, gpus: HeldGpus, monitor: GpuMonitor
) -> None:
    """A look before it is taken beside it; the proof waits until the driver answers again."""
    baseline = await gpus_of(monitor)
    with Family("calm", engine_id) as family:
        gpus.answering.clear()
        remains = Remains(Tree(engine_id, family.leader, None), directory, (), baseline)
        reclaiming = spawn("reclaim", reclaim(remains, monitor, 5.0))
        ended = await asyncio.to_thread(ends, family.child, 3.0)
        waiting = not reclaiming.done()
        gpus.answering.set()

        assert ended
        assert waiting
        assert (await reclaiming).verified


@pytest.mark.parametrize("how", ["kept", "off the bus"])
async def test_memory_that_does_not_come_back_is_told(
    engine_id: str, directory: pathlib.Path, gpus: HeldGpus, monitor: GpuMonitor, how: str
) -> None:
    """The engine is not proven to be gone, though all that can be removed has been."""
    baseline = await gpus_of(monitor)
    if how == "kept":
        gpus.driver_bytes += GIB
    else:
        gpus.missing.add("GPU-1")
    with Family("calm", engine_id) as family:
        remains = Remains(Tree(engine_id, family.leader, None), directory, (), baseline)
        report = await reclaim(remains, monitor, 0.3)

    assert not report.verified
    assert report.summary == "Not proven to be gone: NVML does not show its memory back."
    assert report.killed == 2
    assert 0.3 <= report.memory_seconds < 5
    assert processes_of(engine_id) == []
    assert not directory.exists()


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
