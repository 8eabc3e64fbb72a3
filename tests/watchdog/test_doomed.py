from __future__ import annotations

import pathlib

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.foreign import Foreign, stat_of
from tests.fakes.held_gpus import HeldGpus
from tests.fakes.processes import Family, lives
from vllmd.engines.containment import Containment
from vllmd.gpu.inventory import Gpu, Inventory
from vllmd.gpu.ledger import Expectation
from vllmd.gpu.monitor import GpuMonitor
from vllmd.watchdog.doomed import Doomed, end_foreign, end_ours, trees
from vllmd.watchdog.scene import Judged, Scene, Share
from vllmd.watchdog.verdicts import Judgement, Verdict
from vllmd.worker.processes import Identity, Stat


def judged(pid: int, verdict: Verdict, top: int = 0, uuid: str = "", engine: str = "") -> Judged:
    """A process that a test makes up."""
    shares = (Share(uuid, GIB),) if uuid else ()
    return Judged(
        pid=pid,
        stat=Stat(Identity(pid, 1), "VLLM::EngineCor", "S", 1, 1, 1),
        uid=0,
        start_time=0.0,
        shares=shares,
        judgement=Judgement(verdict, ("why",), engine),
        top=top or pid,
    )


def test_trees_are_whole() -> None:
    """Whoever of it was chosen: all of it, the uppermost first, with all of its GPUs; others are no part of it."""
    core = judged(5, Verdict.FOREIGN_ORPHAN)
    worker = judged(6, Verdict.FOREIGN_ORPHAN, top=5, uuid="GPU-1")
    old = judged(7, Verdict.ORPHAN, uuid="GPU-0", engine="old")
    suspect = judged(8, Verdict.SUSPECT, uuid="GPU-0")
    scene = Scene(Inventory((gpu(0), gpu(1))), (worker, old, suspect, core))

    found = trees(scene, [worker, old, suspect])

    assert [(tree.key, tree.pids, tree.uuids, tree.engine) for tree in found] == [
        (Identity(5, 1), [5, 6], ["GPU-1"], ""),
        ("old", [7], ["GPU-0"], "old"),
    ]


def test_what_gpus_should_hold_afterwards() -> None:
    """What nobody holds now; where nobody says who holds what, no more than all that is in use."""
    tree = Doomed("x", (), (gpu(0, used=GIB),))

    assert tree.expected == (Expectation("GPU-0", GIB),)


def test_a_tree_that_has_grown_is_put_together_with_what_it_was() -> None:
    """Some of those who were in it before may not have ended yet; what the GPUs held then counts."""
    old = judged(7, Verdict.ORPHAN, uuid="GPU-0", engine="old")
    new = judged(8, Verdict.ORPHAN, uuid="GPU-1", engine="old")
    earlier = Doomed("old", (old,), (gpu(0, used=GIB),))
    later = Doomed("old", (new,), (gpu(0, used=2 * GIB), gpu(1)))
    both = later.joined(earlier)

    assert later.has_grown(earlier)
    assert not earlier.has_grown(both)
    assert both.pids == [8, 7]
    assert both.gpus == (gpu(0, used=GIB), gpu(1))


async def end(foreign: Foreign, gpus: HeldGpus, shown: tuple[Gpu, ...], confirmed: bool = True) -> tuple[object, ...]:
    """End the core of a foreign program; returns the report and who was told to be killed."""
    monitor = GpuMonitor(gpus)
    told: list[tuple[int, ...]] = []
    doomed, root = Doomed(foreign.core, (), shown), stat_of(foreign.core.pid)
    report = await end_foreign(doomed, root, monitor, 1.0, lambda: confirmed, told.append, pathlib.Path("/nowhere"))
    monitor.close()
    return report, told


async def test_the_end_of_another_programs_tree(runtime: pathlib.Path) -> None:
    """Nothing is left of it, and the report has the numbers."""
    gpus = HeldGpus()
    with Foreign("serving", runtime) as foreign:
        gpus.hold("GPU-0", foreign.worker, 2 * GIB)
        report, told = await end(foreign, gpus, gpus.snapshot().named(frozenset({"GPU-0"})))
        pids = tuple(sorted([foreign.core.pid, foreign.worker.pid]))

        assert told == [pids]
        assert report.verified  # type: ignore[attr-defined]
        assert (report.pids, report.killed) == (pids, 2)  # type: ignore[attr-defined]
        assert report.gpus[0].used_bytes_before - report.gpus[0].used_bytes_after == 2 * GIB  # type: ignore[attr-defined]


async def test_memory_that_does_not_come_back_is_no_end(runtime: pathlib.Path) -> None:
    """The processes are gone, and NVML has the last word."""
    gpus = HeldGpus()
    with Foreign("serving", runtime) as foreign:
        gpus.hold("GPU-0", foreign.worker)
        shown = gpus.snapshot().named(frozenset({"GPU-0"}))
        gpus.driver_bytes += GIB
        report, _ = await end(foreign, gpus, shown)

        assert report.summary == "Not proven to be gone: NVML does not show its memory back."  # type: ignore[attr-defined]


async def test_who_is_not_confirmed_is_left_alone(runtime: pathlib.Path) -> None:
    """Nobody is told to be killed."""
    with Foreign("serving", runtime) as foreign:
        report, told = await end(foreign, HeldGpus(), (), confirmed=False)

        assert report.pids == ()  # type: ignore[attr-defined]
        assert told == []
        assert lives(foreign.core)


async def test_ours_end_with_their_directory(engine_id: str, runtime: pathlib.Path) -> None:
    """They go the way of any engine: all that carries the marker, and the files."""
    (runtime / engine_id).mkdir()
    monitor = GpuMonitor(HeldGpus())
    with Family("escaping", engine_id, directory=runtime / engine_id) as family:
        report = await end_ours(Doomed(engine_id, (), ()), runtime, Containment(None), monitor, 5.0)

        assert report.verified
        assert set(report.pids) == {member.pid for member in family.members}
        assert not (runtime / engine_id).exists()
    monitor.close()
