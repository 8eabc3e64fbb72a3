from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest
from google.rpc import code_pb2

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import Host, hanging, until, wish
from tests.fakes.profiles import info, key
from vllmd.api import status
from vllmd.engines.state import State
from vllmd.engines.supervisor import Supervisor
from vllmd.errors import Exhausted, NotFound, VllmdError
from vllmd.profiles.store import Profiles
from vllmd.scheduler import placement
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.wish import Wish


def gpu_indices(entry: Entry) -> list[int]:
    plan = entry.supervisor.plan
    assert plan is not None
    return [gpu.index for gpu in plan.gpus]


def starting_time(supervisor: Supervisor) -> tuple[float, float]:
    """When it was STARTING, from and until."""
    times = {transition.new: transition.time for transition in supervisor.life.story}
    return times[State.STARTING], times[State.READY]


async def test_engines_of_one_gpu_load_one_after_the_other() -> None:
    """However many engines want one GPU at once, there are never two of them STARTING."""
    async with Host(gpu()) as host:
        loads = [host.load(wish(f"fake/{number}", gpu_memory_utilization=0.2)) for number in range(3)]
        entries = [entry for entry, _ in await asyncio.gather(*loads)]
        times = sorted(starting_time(entry.supervisor) for entry in entries)

        assert [gpu_indices(entry) for entry in entries] == [[0]] * 3
        assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(times))


async def test_nothing_is_started_while_a_dead_daemons_engines_are_being_ended() -> None:
    """They are no engines of this one's, and may hold memory on any GPU."""
    async with Host(gpu()) as host, contextlib.AsyncExitStack() as stack:
        with host.scheduler.engines.waiting():
            entry = stack.enter_context(host.scheduler.loading(wish()))
            await host.monitor.snapshot()  # comes after that of a plan, if there is one
            state = entry.supervisor.state, entry.supervisor.plan
        await host.ready(entry)

        assert state == (State.PENDING, None)


async def test_engines_of_different_gpus_load_at_once() -> None:
    """What happens on one GPU does not hold up another."""
    async with Host(gpu(0), gpu(1)) as host, host.starting(hanging("fake/a", tensor_parallel_size=1)) as first:
        host.gpus.occupy("GPU-0", 40 * GIB)
        async with host.starting(hanging("fake/b", tensor_parallel_size=1)) as second:
            assert [gpu_indices(first), gpu_indices(second)] == [[0], [1]]
            assert State.STARTING is first.supervisor.state
            assert State.STARTING is second.supervisor.state


async def test_engines_on_the_cpu_load_one_at_a_time() -> None:
    """Each start takes all cores and some GB; what has been loaded is in nobody's way."""
    async with Host() as host:
        with host.scheduler.loading(hanging("fake/a")) as first, host.scheduler.loading(wish("fake/b")) as second:
            await host.state(first, State.STARTING)
            await host.monitor.snapshot()  # comes after that of the second one's plan, which has been made by now
            states = first.supervisor.state, second.supervisor.state
            await host.scheduler.stop(first.supervisor.id, True, "a test kills it")
            await host.ready(second)
            host.scheduler.grant(second, None, False)
        third, _ = await host.load(wish("fake/c"))

        assert states == (State.STARTING, State.PENDING)
        assert gpu_indices(second) == []
        assert second.supervisor.state is third.supervisor.state is State.READY


async def test_no_more_than_so_many_engines_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes after them is told so, and nothing is made for it."""
    monkeypatch.setattr(placement, "MOST_PENDING", 2)
    async with Host(gpu()) as host, host.starting(hanging("fake/a")):
        with (
            host.scheduler.loading(wish("fake/b")),
            host.scheduler.loading(wish("fake/c")),
            pytest.raises(Exhausted) as refused,
            host.scheduler.loading(wish("fake/d")),
        ):
            pass

        assert refused.value.reason == "QUEUE_FULL"
        assert len(host.scheduler.engines.entries()) == 3


async def test_a_stop_waits_for_a_neighbours_load() -> None:
    """Memory that comes back during a load would spoil what vLLM measures, so the stop comes after it."""
    async with Host(gpu()) as host:
        ready, _ = await host.load(wish(gpu_memory_utilization=0.2))
        async with host.starting(hanging(gpu_memory_utilization=0.2)) as neighbour:
            host.scheduler.engines.ask_to_stop(ready, "a test stops it")
            during = ready.supervisor.state, neighbour.supervisor.state, ready.usable
        await host.state(ready, State.STOPPED)

        assert during == (State.READY, State.STARTING, False)
        assert neighbour.supervisor.state.ended


async def test_a_forced_stop_waits_for_nobody() -> None:
    """What an operator kills is killed at once, whatever else happens on the GPU."""
    async with Host(gpu()) as host:
        ready, _ = await host.load(wish(gpu_memory_utilization=0.2))
        async with host.starting(hanging(gpu_memory_utilization=0.2)) as neighbour:
            await host.scheduler.stop(ready.supervisor.id, True, "a test kills it")

            assert State.STARTING is neighbour.supervisor.state
            assert State.STOPPED is ready.supervisor.state


async def test_an_engine_that_waits_for_its_gpu_can_be_stopped() -> None:
    """An engine that has no processes yet ends without any."""
    async with Host(gpu()) as host, host.starting(hanging("fake/a")):
        with host.scheduler.loading(hanging("fake/b")) as waiting:
            state = waiting.supervisor.state

        assert State.PENDING is state
        assert State.STOPPED is waiting.supervisor.state
        assert waiting.supervisor.spawned is None


async def test_a_plan_is_made_of_what_is_free_at_the_start() -> None:
    """A snapshot taken before a neighbour was ready is not used after it: memory has gone since."""
    async with Host(gpu()) as host:
        async with host.starting(wish("fake/first", fake_load_seconds=0.5, gpu_memory_utilization=0.2)) as first:
            host.gpus.answering.clear()
            with host.scheduler.loading(wish("fake/second")) as second:
                await asyncio.to_thread(host.gpus.asked.acquire, timeout=20)  # the first one's
                await asyncio.to_thread(host.gpus.asked.acquire, timeout=20)
                await host.state(first, State.READY)
                host.gpus.occupy("GPU-0", 40 * GIB)
                host.gpus.answering.set()
                await host.ready(second)
                plan = second.supervisor.plan

        assert plan is not None
        assert plan.gpus[0].free_bytes == 40 * GIB
        assert plan.engine_args["gpu_memory_utilization"] < 0.5


async def test_what_does_not_fit_waits_for_an_engine_that_ends() -> None:
    """While memory is on its way back, a load that lacks it waits instead of failing."""
    async with Host(gpu(), stop_grace=600.0) as host:
        old, lease = await host.load(wish("fake/old", fake_ignore_sigterm=True))
        host.gpus.occupy("GPU-0", 78 * GIB, pid=max(old.supervisor.known_pids))
        host.scheduler.release(lease.id)
        await host.state(old, State.STOPPING)
        while host.gpus.asked.acquire(blocking=False):
            pass
        with host.scheduler.loading(wish("fake/new")) as new:
            await asyncio.to_thread(host.gpus.asked.acquire, timeout=20)
            await host.monitor.snapshot()  # comes after the plan's own, so that has been looked at by now
            pending = new.supervisor.state
            host.gpus.set(gpu())
            await host.scheduler.stop(old.supervisor.id, True, "a test kills it")
            await host.ready(new)

        assert pending is State.PENDING
        assert State.STOPPED is old.supervisor.state


async def test_what_does_not_fit_fails_with_the_numbers() -> None:
    """Without anybody to wait for, an engine that does not fit fails, and says how much is missing."""
    async with Host(gpu(used=79 * GIB)) as host:
        entry = host.scheduler.engines.add(wish())
        await host.state(entry, State.FAILED)
        failure = entry.supervisor.failure

        assert failure is not None
        assert failure.reason == "GPU_MEMORY_EXHAUSTED"
        assert {"gpu": "0", "free_bytes": str(GIB), "total_bytes": str(80 * GIB)} == dict(failure.metadata)
        assert entry.supervisor.spawned is None


async def test_memory_that_does_not_come_back_is_a_failure() -> None:
    """An engine whose memory NVML still shows in use is not proven to be gone."""
    async with Host(gpu(), reclaim_timeout=0.1) as host:
        entry, _ = await host.load(wish())
        host.gpus.leak("GPU-0", GIB)
        await host.scheduler.stop(entry.supervisor.id, False, "a test stops it")

        assert State.FAILED is entry.supervisor.state
        assert entry.supervisor.failure is not None
        assert entry.supervisor.failure.reason == "RECLAIM_FAILED"


async def test_a_host_whose_gpus_can_not_be_asked_for_starts_nothing() -> None:
    """It is not taken for one without GPUs, on which the engine would start on the CPU."""
    async with Host(gpu()) as host:
        host.gpus.silence = "the driver has lost its mind"
        with pytest.raises(VllmdError, match="lost its mind") as failed:
            await host.load(wish())
        (entry,) = host.scheduler.engines.entries()

        assert failed.value.reason == "NVML_UNAVAILABLE"
        assert status.to_status(failed.value).code == code_pb2.UNAVAILABLE
        assert State.FAILED is entry.supervisor.state
        assert entry.supervisor.spawned is None


async def test_a_bug_in_planning_fails_the_engine() -> None:
    """Whatever goes wrong before the start, nobody waits for the engine for ever."""
    async with Host() as host:
        host.gpus.broken = RuntimeError("NVML has gone mad")
        entry = host.scheduler.engines.add(wish())
        await host.state(entry, State.FAILED)

        assert entry.supervisor.failure is not None
        assert entry.supervisor.failure.reason == "INTERNAL"


async def test_engines_that_never_began_soon_make_room() -> None:
    """Whoever loaded them was told why; a list of what was refused shows nothing of what there is."""
    async with Host() as host:
        engines = host.scheduler.engines
        first = engines.add(wish("fake/ended"))
        first.supervisor.stop("a test stops it", force=True)
        first.supervisor.spawned = 1.0
        for number in range(placement.KEPT_REFUSED + 3):
            engines.add(wish(f"fake/{number}")).supervisor.stop("a test stops it", force=True)
        models = [entry.wish.model for entry in engines.entries()]

        assert models == [*(f"fake/{number}" for number in range(placement.KEPT_REFUSED + 2, 1, -1)), "fake/ended"]


async def test_engines_that_ended_stay_listed_for_a_while() -> None:
    """The newest come first, and only so many of those that ended are kept."""
    async with Host() as host:
        engines = host.scheduler.engines
        for number in range(placement.KEPT_ENDED + 3):
            entry = engines.add(wish(f"fake/{number}"))
            entry.supervisor.stop("a test stops it", force=True)
            entry.supervisor.spawned = 1.0
        models = [entry.wish.model for entry in engines.entries()]

        assert len(models) == placement.KEPT_ENDED + 1
        assert f"fake/{placement.KEPT_ENDED + 2}" == models[0]
        assert models[-1] == "fake/2"
        assert engines.alive() == []
        with pytest.raises(NotFound, match="no engine"):
            engines.get("no-such-engine")


async def test_every_change_is_told() -> None:
    """Who waits for changes is woken by those of any engine."""
    async with Host() as host:
        with host.scheduler.loading(wish()) as entry:
            await until(host.scheduler.engines.changed, lambda: entry.supervisor.state is State.READY)

            assert [entry] == host.scheduler.engines.alive()


async def test_what_the_hub_refuses_is_told_before_any_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine has to fail for it."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"failure": "gated", "why": "GatedRepoError"}\'\n')
    python.chmod(0o755)

    async with Host(gpu(), backend="vllm", python=python) as host:
        with pytest.raises(VllmdError, match="gated on the hub") as refused:
            await host.load(Wish("org/gated"))

    assert status.to_status(refused.value).code == code_pb2.PERMISSION_DENIED


async def test_what_is_installed_is_known_before_a_plan_is_made() -> None:
    """A plan can't wait for an answer when it looks up what an earlier load took."""
    asked = []

    async def installed() -> str:
        asked.append("0.25.1")
        return asked[-1]

    profiles = Profiles(installed=installed)
    async with Host(gpu(), profiles=profiles) as host:
        await host.load(wish("fake/first"))
        assert not asked
        profiles.learn("fake/first", key(), info("0.32.0"), None)
        await host.load(wish("fake/second", gpu_memory_utilization=0.1))

        assert asked == ["0.25.1"]
        assert profiles.lookup(key()) is None
