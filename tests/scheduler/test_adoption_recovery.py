"""What becomes of an engine that does not run when the next daemon comes, and of the leases on it."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import Host, eventually, finish, until, wish
from tests.fakes.processes import kill
from vllmd.engines.diagnosis import Failure
from vllmd.engines.restarts import Policy
from vllmd.engines.state import State
from vllmd.errors import NotFound, Unavailable
from vllmd.events import Kind
from vllmd.planner.planning import Plan
from vllmd.scheduler import adoption
from vllmd.scheduler.adoption import SHORTEST_SECONDS, Fate
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.journal import Contents, EngineRecord, LeaseRecord, RestartRecord
from vllmd.scheduler.leases import Lease
from vllmd.scheduler.scheduler import Scheduler
from vllmd.worker.processes import Identity, processes
from vllmd.worker.protocol import TextPrompt

PROMPT = TextPrompt("once upon a time")
PATIENT = Policy(limit=3, first_delay_seconds=0.0)
SLOW = Policy(limit=3, first_delay_seconds=600.0)
FAILURE = Failure("ENGINE_DIED", "It died.")
WAITING = RestartRecord(due=1008.0, failure=FAILURE, reclaimed=True, counts=True)
RECORD = EngineRecord(
    id="e-1", model="m", revision="", engine_args={}, auto_config=True, plan=Plan((), ()), created=1.0, spawned=2.0,
    ready=3.0, restarted=[4.0], restart=WAITING,
)  # fmt: skip


def changed(record: EngineRecord) -> EngineRecord:
    return record


async def succeed(host: Host, change: Callable[[EngineRecord], EngineRecord] = changed) -> list[Entry]:
    """Let the next daemon take over; returns what it goes on with."""
    earlier = adoption.contents(host.scheduler.engines.alive(), host.scheduler.leases)
    earlier = dataclasses.replace(earlier, engines=[change(record) for record in earlier.engines])
    host.scheduler = Scheduler(host.ground, host.quarantines)
    return [host.scheduler.engines.get(engine_id) for engine_id in host.scheduler.adopt(earlier)]


async def upgraded(host: Host, change: Callable[[EngineRecord], EngineRecord] = changed) -> list[Entry]:
    """Hand over to the next daemon."""
    await host.scheduler.hand_over()
    return await succeed(host, change)


def core_of(entry: Entry) -> Identity:
    """EngineCore."""
    pids = entry.supervisor.known_pids
    return next(s.identity for s in processes() if s.identity.pid in pids and s.name == "VLLM::EngineCor")


async def failed(host: Host, state: State) -> tuple[Entry, Lease]:
    """An engine that somebody has a lease on and whose core was killed."""
    entry, lease = await host.load(wish(max_model_len=777))
    kill(core_of(entry))
    await host.state(entry, state)
    return entry, lease


async def tokens_on(host: Host, lease: Lease) -> int:
    """Generate on a lease."""
    with host.scheduler.generating(lease.id, "", PROMPT, {"max_tokens": 5}) as stream:
        return await finish(stream)


async def test_an_engine_waits_on_for_its_restart() -> None:
    """Under the same name, with its plan, its past and the time that was set; its lease says when to try again."""
    async with Host(restarts=SLOW) as host:
        entry, lease = await failed(host, State.BACKOFF)
        entry.supervisor.restarted.append(time.time() - 5.0)
        (again,) = await upgraded(host)
        await host.state(again, State.BACKOFF)
        with pytest.raises(Unavailable) as meanwhile:
            await tokens_on(host, lease)

        before, after = entry.supervisor, again.supervisor
        assert after.id == before.id
        assert (after.plan, again.wish, after.created) == (before.plan, entry.wish, before.created)
        assert (after.restarted, after.failure) == (before.restarted, before.failure)
        assert after.next_start == pytest.approx(before.next_start, abs=5.0)
        assert not after.due
        assert meanwhile.value.reason == "ENGINE_RESTARTING"
        assert host.scheduler.lease(lease.id).engine_id == before.id


async def test_a_restart_that_became_due_meanwhile_is_made() -> None:
    """And costs what it would have cost before."""

    def overdue(record: EngineRecord) -> EngineRecord:
        assert record.restart is not None
        return dataclasses.replace(record, restart=dataclasses.replace(record.restart, due=time.time() - 5.0))

    async with Host(restarts=SLOW) as host:
        _, lease = await failed(host, State.BACKOFF)
        (again,) = await upgraded(host, overdue)
        await host.ready(again)

        assert await tokens_on(host, lease) == 5
        assert len(again.supervisor.restarted) == 1


async def test_an_engine_that_was_being_reclaimed_is_so_to_the_end_and_started_again() -> None:
    """The next daemon does not take its processes for survivors."""
    async with Host(gpu(), restarts=PATIENT) as host:
        entry, lease = await host.load(wish())
        host.gpus.answering.clear()  # no reclaim is at its end without a look at the GPU
        kill(core_of(entry))
        await host.state(entry, State.RECLAIMING)
        (again,) = await upgraded(host)
        state = again.supervisor.state
        host.gpus.answering.set()
        await host.ready(again)

        assert state is State.RECLAIMING
        assert await tokens_on(host, lease) == 5


async def test_an_engine_that_died_with_its_daemon_is_started_again() -> None:
    """What is left of it goes first; its log says why it died, and the start counts."""
    async with Host(restarts=PATIENT) as host:
        entry, lease = await host.load(wish())
        await host.scheduler.hand_over()
        tree = entry.supervisor.tree
        assert tree is not None
        tree.kill(5.0)
        with (host.ground.root / entry.supervisor.id / "engine.log").open("a") as log:
            log.write("\nValueError: of all things\n")
        (again,) = await succeed(host)
        failure = again.supervisor.failure
        await adoption.reclaimed(host.scheduler.engines, [again.supervisor.id], 20.0)
        await host.ready(again)
        states = [one.new for one in again.supervisor.life.story]

        assert failure is not None
        assert "its worker ended with its daemon, or after it" in failure.message
        assert "of all things" in failure.message
        assert states == [State.RECLAIMING, State.BACKOFF, State.STARTING, State.READY]
        assert len(again.supervisor.restarted) == 1
        assert await tokens_on(host, lease) == 5


async def test_an_engine_that_is_out_of_restarts_comes_back_as_failed() -> None:
    """Its budget does not begin anew with the daemon; its leases end with it, as they would have before."""
    async with Host(restarts=PATIENT) as host:
        entry, lease = await host.load(wish())
        entry.supervisor.restarted += [time.time()] * 3
        await host.scheduler.hand_over()
        tree = entry.supervisor.tree
        assert tree is not None
        tree.kill(5.0)
        (again,) = await succeed(host)
        await again.supervisor.ended()
        told = [event.reasons for event in host.ground.events.after(0)[0] if event.kind is Kind.RESTART]

        assert again.supervisor.id == entry.supervisor.id
        assert again.supervisor.state is State.FAILED
        assert told == [("it was started again 3 times within 600 s",)]
        with pytest.raises(NotFound, match="its engine ended"):
            host.scheduler.lease(lease.id)


async def test_an_engine_whose_memory_does_not_come_back_is_not_started_again() -> None:
    """Its GPU is in quarantine until it does."""
    async with Host(gpu(), restarts=PATIENT, reclaim_timeout=0.05, quarantine_retry=0.05) as host:
        entry, _ = await host.load(wish())
        await host.scheduler.hand_over()
        tree = entry.supervisor.tree
        assert tree is not None
        tree.kill(5.0)
        host.gpus.leak("GPU-0", GIB)
        (again,) = await succeed(host)
        await again.supervisor.ended()
        quarantined = "GPU-0" in host.quarantines
        host.gpus.set(gpu())
        await until(host.scheduler.engines.changed, lambda: "GPU-0" not in host.quarantines)

        assert quarantined
        assert again.supervisor.state is State.FAILED
        assert again.supervisor.failure is not None
        assert again.supervisor.failure.reason == "RECLAIM_FAILED"


async def test_what_was_asked_to_end_does_not_come_back() -> None:
    """Though it had failed, and was to be started again before it was asked."""
    async with Host(gpu(), restarts=PATIENT) as host:
        entry, _ = await host.load(wish())
        host.gpus.answering.clear()
        kill(core_of(entry))
        await host.state(entry, State.RECLAIMING)
        entry.supervisor.stop("a test stops it", force=True)
        again = await upgraded(host)
        host.gpus.answering.set()
        await eventually(lambda: not any(host.ground.root.iterdir()))

        assert again == []


async def test_what_nobody_has_a_lease_on_does_not_come_back() -> None:
    """It is told why."""
    async with Host(restarts=SLOW) as host:
        entry, lease = await failed(host, State.BACKOFF)
        await host.scheduler.hand_over()
        host.scheduler.leases.release(lease.id)
        again = await succeed(host)
        told = [event for event in host.ground.events.after(0)[0] if event.kind is Kind.ADOPTION]

        assert again == []
        assert [(event.engine, event.reasons) for event in told] == [
            (entry.supervisor.id, ("it does not run, and nobody has a lease on it",))
        ]


@pytest.mark.parametrize(
    ("restart", "lives", "leased", "what"),
    [
        (None, True, False, Fate.ADOPT),
        (None, False, True, Fate.RECOVER),
        (None, False, False, Fate.LEAVE),
        (WAITING, False, True, Fate.RECOVER),
        (WAITING, True, True, Fate.ADOPT),
        (dataclasses.replace(WAITING, reclaimed=False), True, True, Fate.RECOVER),
        (dataclasses.replace(WAITING, reclaimed=False), True, False, Fate.LEAVE),
    ],
)
def test_fates(restart: RestartRecord | None, lives: bool, leased: bool, what: Fate) -> None:
    """What runs is taken over unless it had failed; what does not run comes back for the sake of a lease."""
    record = dataclasses.replace(RECORD, restart=restart)

    assert adoption.fate(record, lives=lives, leased=leased)[0] is what
    assert adoption.fate(dataclasses.replace(record, plan=None), lives=lives, leased=leased)[0] is Fate.LEAVE


def test_a_restart_that_had_just_been_made_counts() -> None:
    """What runs is another process than the one that served, and has yet to."""
    now = adoption.begun(RECORD, 9.0)
    free = adoption.begun(dataclasses.replace(RECORD, restart=dataclasses.replace(WAITING, counts=False)), 9.0)

    assert (now.restart, now.spawned, now.ready, now.restarted) == (None, 9.0, None, [4.0, 9.0])
    assert free.restarted == [4.0]


def test_a_lease_that_is_long_over_is_no_reason_for_a_start() -> None:
    """One that has just ended is: its client could not renew it without a daemon."""
    now = 10_000.0
    lease = LeaseRecord(id="s", engine_id="e-1", ttl=300.0, expires=now - SHORTEST_SECONDS + 1)

    assert adoption.lasts(lease, now)
    assert adoption.lasts(dataclasses.replace(lease, ttl=None, expires=None), now)
    assert not adoption.lasts(dataclasses.replace(lease, expires=now - SHORTEST_SECONDS - 1), now)


async def test_an_engine_in_whose_place_is_something_else_does_not_come_back() -> None:
    """Nobody removes what is no engine's."""
    async with Host(restarts=PATIENT) as host:
        (host.ground.root / "e-1").mkdir()
        (host.ground.root / "e-1" / "thesis").touch()
        lease = LeaseRecord(id="s", engine_id="e-1", ttl=None, expires=None)
        adopted = host.scheduler.adopt(Contents(boot_id="b", engines=[RECORD], leases=[lease]))
        kept = (host.ground.root / "e-1" / "thesis").exists()
        shutil.rmtree(host.ground.root / "e-1")

        assert adopted == frozenset()
        assert kept
