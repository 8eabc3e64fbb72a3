from __future__ import annotations

import dataclasses
import os
import pathlib
import time

from tests.fakes.fake_gpus import GIB
from tests.fakes.foreign import Foreign, Watched, stat_of
from tests.fakes.held_gpus import HeldGpus
from tests.fakes.processes import Family
from vllmd.engines.containment import Containment
from vllmd.gpu.monitor import GpuMonitor
from vllmd.watchdog.scene import Lookout, Share
from vllmd.watchdog.verdicts import Verdict
from vllmd.worker.processes import Identity


def lookout(gpus: HeldGpus, root: pathlib.Path, *living: str) -> tuple[Lookout, GpuMonitor]:
    monitor = GpuMonitor(gpus)
    return Lookout(monitor, root, Containment(None), lambda: frozenset(living), lambda: None), monitor


async def test_what_a_look_shows_of_a_process(runtime: pathlib.Path) -> None:
    """Its shares of all GPUs, whose it is and since when; those that hold most come first."""
    gpus = HeldGpus()
    watch, monitor = lookout(gpus, runtime)
    with Foreign("serving", runtime) as foreign, Family("calm") as other:
        gpus.hold("GPU-0", foreign.worker, 2 * GIB)
        gpus.hold("GPU-1", foreign.worker, 2 * GIB)
        gpus.hold("GPU-1", other.child, 3 * GIB)
        scene = await watch.look()
        first, second = scene.judged[:2]

        assert [first.pid, second.pid] == [foreign.worker.pid, other.child.pid]
        assert first.shares == (Share("GPU-0", 2 * GIB), Share("GPU-1", 2 * GIB))
        assert first.used_bytes == 4 * GIB
        assert first.uuids == {"GPU-0", "GPU-1"}
        assert first.uid == os.getuid()
        assert first.start_time is not None
        assert abs(first.start_time - time.time()) < 30
        assert second in scene.of(Verdict.FOREIGN)
    watch.close()
    monitor.close()


async def test_an_engine_that_ended_during_the_look_is_not_an_orphan(engine_id: str, runtime: pathlib.Path) -> None:
    """Its process was seen while it lived; so was an engine that began during the look."""
    lists = [frozenset({engine_id}), frozenset[str](), frozenset[str](), frozenset({engine_id})]
    gpus = HeldGpus()
    monitor = GpuMonitor(gpus)
    watch = Lookout(monitor, runtime, Containment(None), lambda: lists.pop(0), lambda: None)
    with Family("calm", engine_id, directory=runtime / engine_id) as family:
        gpus.hold("GPU-0", family.child)
        ending = (await watch.look()).judged[0].judgement.verdict
        beginning = (await watch.look()).judged[0].judgement.verdict

        assert (ending, beginning) == (Verdict.OWNED, Verdict.OWNED)
    watch.close()
    monitor.close()


async def test_an_orphan_is_confirmed_as_what_it_is_now(runtime: pathlib.Path) -> None:
    """And not under another identity, name or parent, nor while its parent lives."""
    gpus = HeldGpus()
    watch, monitor = lookout(gpus, runtime)
    with Foreign("serving", runtime) as foreign:
        await watch.look()
        before = watch.confirms(stat_of(foreign.core.pid))
        old = stat_of(foreign.core.pid)
        foreign.lose_launcher()
        now = stat_of(foreign.core.pid)

        assert not before
        assert watch.confirms(now)
        assert not watch.confirms(old)
        assert not watch.confirms(dataclasses.replace(now, identity=Identity(now.identity.pid, 1)))
        assert not watch.confirms(dataclasses.replace(now, name="VLLM::Worker"))
        assert not watch.confirms(dataclasses.replace(now, identity=Identity(2**22 - 1, 1)))
    watch.close()
    monitor.close()


async def test_a_look_is_cheap_when_nothing_has_changed(runtime: pathlib.Path) -> None:
    """Two processes of vLLM's among all the others cost milliseconds, the thread that looks included."""
    async with Watched(runtime) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            await watched.dog.round()
            costs = []
            for _ in range(10):
                start = time.process_time()
                await watched.dog.round()
                costs.append(time.process_time() - start)

    assert min(costs) < 0.020
