"""What becomes of an engine that fails while somebody needs it."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.fake_gpus import gpu
from tests.fakes.host import DEADLINE_SECONDS, Host, finish, until, wish
from tests.fakes.processes import kill
from vllmd.engines.restarts import Policy
from vllmd.engines.state import State
from vllmd.errors import EngineFailed, NotFound, Unavailable
from vllmd.events import Kind
from vllmd.scheduler import placement
from vllmd.scheduler.entry import Entry
from vllmd.worker.processes import processes
from vllmd.worker.protocol import TextPrompt

PROMPT = TextPrompt("once upon a time")
PATIENT = Policy(limit=3, first_delay_seconds=0.0)
SLOW = Policy(limit=3, first_delay_seconds=600.0)


def kill_core(entry: Entry) -> None:
    """`kill -9` EngineCore."""
    pids = entry.supervisor.known_pids
    for stat in processes():
        if stat.identity.pid in pids and stat.name == "VLLM::EngineCor":
            kill(stat.identity)


def told(host: Host) -> list[tuple[str, tuple[str, ...]]]:
    """What was told of restarts, with the reasons."""
    return [(event.message, event.reasons) for event in host.ground.events.after(0)[0] if event.kind is Kind.RESTART]


async def left(host: Host, entry: Entry, state: State) -> None:
    """Wait until an engine is in another state."""
    await until(host.scheduler.engines.changed, lambda: entry.supervisor.state is not state)


async def test_an_engine_that_somebody_needs_is_started_again() -> None:
    """Its lease stays and works again; what ran on it ends with the reason and with word of when to try again."""
    async with Host(restarts=PATIENT) as host:
        entry, lease = await host.load(wish())
        first = entry.supervisor.pid
        with host.scheduler.generating(lease.id, "", PROMPT, {"max_tokens": 4000}) as stream:
            await stream.next()
            kill_core(entry)
            with pytest.raises(Unavailable) as ended:
                await finish(stream)
        await left(host, entry, State.READY)
        with pytest.raises(Unavailable) as meanwhile, host.scheduler.generating(lease.id, "", PROMPT, {}):
            pass
        loading = entry.loading, entry.usable
        await host.ready(entry)
        with host.scheduler.generating(lease.id, "", PROMPT, {"max_tokens": 5}) as stream:
            tokens = await finish(stream)

        assert ended.value.reason == "ENGINE_DIED"
        assert meanwhile.value.reason == "ENGINE_RESTARTING"
        assert (meanwhile.value.retry_seconds or 0.0) >= 1.0
        assert loading == (True, True)
        assert tokens == 5
        assert entry.supervisor.pid != first
        assert len(entry.supervisor.restarted) == 1
        assert entry.supervisor.failure is None
        kinds = [event.kind for event in host.ground.events.after(0)[0]]
        assert kinds.index(Kind.RESTART) < kinds.index(Kind.RECLAIM)


async def test_an_engine_that_nobody_needs_is_not_started_again() -> None:
    """Its memory is better used by somebody else."""
    async with Host(idle_timeout=600.0, restarts=PATIENT) as host:
        entry, lease = await host.load(wish())
        host.scheduler.release(lease.id)
        kill_core(entry)
        await entry.supervisor.ended()

        assert State.FAILED is entry.supervisor.state
        assert entry.supervisor.restarted == []
        assert told(host) == [("It is given up.", ("nobody has a lease on it",))]


async def test_a_generation_alone_does_not_bring_an_engine_back() -> None:
    """It ends with the engine, and then there is nobody to start it for: nothing else is told."""
    async with Host(idle_timeout=600.0, restarts=PATIENT) as host:
        entry, lease = await host.load(wish())
        with host.scheduler.generating("", entry.supervisor.id, PROMPT, {"max_tokens": 4000}) as stream:
            await stream.next()
            host.scheduler.release(lease.id)
            kill_core(entry)
            with pytest.raises(Unavailable):
                await finish(stream)
            await entry.supervisor.ended()

        assert State.FAILED is entry.supervisor.state
        assert told(host) == [("It is given up.", ("nobody has a lease on it",))]


async def test_an_engine_that_fails_again_and_again_is_given_up() -> None:
    """Its leases end with it, and its error says what happened last."""
    async with Host(restarts=Policy(limit=2, first_delay_seconds=0.0)) as host:
        entry, lease = await host.load(wish())
        for _ in range(3):
            await host.state(entry, State.READY, State.FAILED)
            kill_core(entry)
            await left(host, entry, State.READY)
        await entry.supervisor.ended()

        assert len(entry.supervisor.restarted) == 2
        assert told(host) == [
            ("It is started again.", ("there is a lease on it", "restart 1 of at most 2 within 600 s")),
            ("It is started again.", ("there is a lease on it", "restart 2 of at most 2 within 600 s")),
            ("It is given up.", ("it was started again 2 times within 600 s",)),
        ]
        with pytest.raises(NotFound):
            host.scheduler.lease(lease.id)


async def test_a_driver_that_is_silent_for_a_moment_ends_no_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is planned again until NVML answers: it fitted before."""
    monkeypatch.setattr(placement, "_REPLAN_SECONDS", 0.01)
    async with Host(gpu(), restarts=Policy(limit=3, first_delay_seconds=0.2)) as host:
        entry, _ = await host.load(wish())
        kill_core(entry)
        await host.state(entry, State.BACKOFF)
        host.gpus.silence = "the driver is busy"
        while host.gpus.asked.acquire(blocking=False):
            pass
        for _ in range(3):
            assert await asyncio.to_thread(host.gpus.asked.acquire, timeout=DEADLINE_SECONDS)
        host.gpus.silence = ""
        await host.ready(entry)

        assert entry.supervisor.failure is None
        assert len(entry.supervisor.restarted) == 1


async def test_the_last_release_ends_the_wait_for_a_restart() -> None:
    """Nobody needs it any more, and there is nothing to reclaim."""
    async with Host(restarts=SLOW) as host:
        entry, lease = await host.load(wish())
        kill_core(entry)
        await host.state(entry, State.BACKOFF)
        due = entry.supervisor.next_start, entry.supervisor.due
        host.scheduler.release(lease.id)
        await entry.supervisor.ended()

        assert due[0] is not None
        assert not due[1]
        assert State.STOPPED is entry.supervisor.state


async def test_a_release_during_the_reclaim_is_heeded() -> None:
    """What is being killed is not started again for nobody."""
    async with Host(restarts=PATIENT) as host:
        entry, lease = await host.load(wish())
        kill_core(entry)
        await host.state(entry, State.RECLAIMING)
        host.scheduler.release(lease.id)
        await entry.supervisor.ended()

        assert entry.supervisor.restarted == []
        assert told(host)[-1] == ("It is not started again after all.", ("nobody has a lease on it any more",))


async def test_who_loads_meanwhile_waits_for_the_restart() -> None:
    """A second engine would take what the first one is to get back."""
    async with Host(restarts=PATIENT) as host:
        entry, _ = await host.load(wish())
        kill_core(entry)
        await left(host, entry, State.READY)
        again, lease = await host.load(wish())

        assert again is entry
        assert host.scheduler.lease(lease.id).engine_id == entry.supervisor.id


async def test_a_first_start_that_fails_is_told_and_not_repeated() -> None:
    """Its client is there to decide."""
    async with Host(restarts=PATIENT) as host:
        with pytest.raises(EngineFailed):
            await host.load(wish(fake_fail_phase="compiling"))

        assert [entry.supervisor.restarted for entry in host.scheduler.engines.entries()] == [[]]


async def test_a_start_that_a_neighbour_disturbed_is_made_again() -> None:
    """Who waits for it does not notice; it costs nothing of the budget."""
    error = "AssertionError: Error in memory profiling. Initial free memory 10, current free memory 20."
    async with Host(restarts=PATIENT) as host:
        with host.scheduler.loading(wish(fake_fail_phase="profiling", fake_error=error)) as entry:
            with pytest.raises(EngineFailed) as given_up:
                await host.ready(entry)

        starts = [one for one in entry.supervisor.life.story if one.new is State.STARTING]
        assert len(starts) == 4
        assert entry.supervisor.restarted == []
        assert given_up.value.reason == "PROFILING_DISTURBED"
