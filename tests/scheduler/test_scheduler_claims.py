from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.fakes.host import Host, finish, hanging, wish
from tests.fakes.rules import change
from vllmd.engines.state import State
from vllmd.errors import Exhausted, NotFound, NotPossible, Unavailable, VllmdError
from vllmd.scheduler import scheduler
from vllmd.tasks import repeat, spawn
from vllmd.worker.protocol import TextPrompt

PROMPT = TextPrompt("one two three")


async def test_the_last_lease_takes_the_engine_with_it() -> None:
    """The release of the last lease, and only that, stops the engine and proves that it is gone."""
    async with Host() as host:
        entry, first = await host.load(wish())
        _, second = await host.load(wish())
        await host.scheduler.settled(host.scheduler.release(first.id))
        between = entry.supervisor.state
        await host.scheduler.settled(host.scheduler.release(second.id))
        report = entry.supervisor.report

        assert State.READY is between
        assert State.STOPPED is entry.supervisor.state
        assert report is not None
        assert report.verified
        assert [t.new for t in entry.supervisor.life.story[-3:]] == [State.STOPPING, State.RECLAIMING, State.STOPPED]


async def test_an_engine_stays_warm_for_the_idle_timeout() -> None:
    """With an idle timeout the release answers at once, and the next load finds the engine as it was."""
    async with Host(idle_timeout=600.0) as host:
        entry, lease = await host.load(wish())
        await host.scheduler.settled(host.scheduler.release(lease.id))
        warm = entry.supervisor.state, entry.idle_timer
        again, _ = await host.load(wish())

        assert State.READY is warm[0]
        assert warm[1] is not None
        assert entry is again
        assert entry.idle_timer is None


async def test_the_end_of_the_idle_timeout_stops_the_engine() -> None:
    """An engine that nobody wanted for the idle timeout is stopped."""
    async with Host(idle_timeout=0.02) as host:
        entry, lease = await host.load(wish())
        host.scheduler.release(lease.id)
        await host.state(entry, State.STOPPED)

        assert entry.supervisor.life.story[-3].reason == "nobody has a lease on it"


async def test_rules_that_change_count_for_what_comes_next() -> None:
    """A lease that was given keeps its length; an engine that is idle stays as long as is now the rule."""
    async with Host(idle_timeout=600.0, lease_ttl=50.0) as host:
        entry, before = await host.load(wish())
        old = change(host.ground.live, lease_ttl=70.0, idle_timeout=0.01)
        host.scheduler.rules_changed(old)
        _, after = await host.load(wish())
        idle, lease = await host.load(wish("fake/idle"))
        change(host.ground.live, idle_timeout=600.0)
        host.scheduler.release(lease.id)
        host.scheduler.rules_changed(change(host.ground.live, idle_timeout=0.01))
        await host.state(idle, State.STOPPED)

        assert (before.ttl, after.ttl) == (50.0, 70.0)
        assert State.READY is entry.supervisor.state


async def test_an_unused_lease_expires_and_a_used_one_does_not() -> None:
    """A lease whose time is over stays while a generation runs on it, and ends its length after that."""
    async with Host() as host:
        ticking = spawn("tick", repeat("a tick", 0.05, host.scheduler.tick))
        unused, _ = await host.load(wish("fake/unused"), ttl=0.05)
        entry, lease = await host.load(wish(), ttl=0.05)
        with host.scheduler.generating(lease.id, "", PROMPT, {}) as stream:
            await stream.next()
            await host.state(unused, State.STOPPED)  # so leases were looked through meanwhile
            kept = host.scheduler.leases.get(lease.id), entry.supervisor.state
        await host.state(entry, State.STOPPED)
        ticking.cancel()

        assert (lease, State.READY) == kept


async def test_a_lease_is_renewed_from_now_on() -> None:
    """A renewal counts from the moment it comes, and may change the length."""
    async with Host(lease_ttl=50.0) as host:
        _, lease = await host.load(wish())
        before = lease.expires
        default, longer = lease.ttl, host.scheduler.renew(lease.id, 100.0)

        assert default == 50.0
        assert longer.ttl == 100.0
        assert before is not None
        assert longer.expires is not None
        assert longer.expires >= before + 50.0


async def test_unknown_leases_are_not_found() -> None:
    """A lease that never was, or that was released, is NOT_FOUND whatever is asked of it."""
    async with Host() as host:
        _, lease = await host.load(wish())
        await host.scheduler.settled(host.scheduler.release(lease.id))

        for call in (host.scheduler.release, host.scheduler.lease, lambda key: host.scheduler.renew(key, None)):
            for key in ("never", lease.id):
                with pytest.raises(NotFound, match="no such lease"):
                    call(key)


async def test_a_generation_by_engine_name_keeps_the_engine_for_as_long_as_it_runs() -> None:
    """Without a lease an engine lives on until the generation on it has ended."""
    async with Host() as host:
        entry, lease = await host.load(wish())
        with host.scheduler.generating("", entry.supervisor.id, PROMPT, {"max_tokens": 100_000}) as stream:
            host.scheduler.release(lease.id)
            await stream.next()
            during = entry.supervisor.state, entry.using
        await host.state(entry, State.STOPPED)

        assert during == (State.READY, 1)


async def test_what_a_generation_leaves_unfinished_is_aborted_in_the_engine() -> None:
    """Once a generation is left, the engine makes no more tokens for it."""
    async with Host() as host:
        entry, lease = await host.load(wish(fake_tokens_per_second=500))
        link = entry.supervisor.link
        with host.scheduler.generating(lease.id, "", PROMPT, {}) as stream:
            await stream.next()
        assert link is not None
        with host.scheduler.generating(lease.id, "", PROMPT, {"max_tokens": 20}) as stream:
            first = await stream.next()
            seen = link.generated_tokens - len(first.token_ids)
            await finish(stream)

        assert link.generated_tokens - seen == 20
        assert link.running == 0


async def test_an_engine_that_loads_does_not_generate() -> None:
    """A generation on an engine that is not ready yet is refused, and told what to do."""
    async with Host() as host, host.starting(hanging()) as entry:
        with (
            pytest.raises(NotPossible, match="LoadModel waits") as refused,
            host.scheduler.generating("", entry.supervisor.id, PROMPT, {}),
        ):
            pass

        assert refused.value.reason == "ENGINE_NOT_READY"


async def test_the_death_of_an_engine_ends_leases_and_generations() -> None:
    """When the core is killed, generations end with the cause, and the leases with the engine."""
    async with Host() as host:
        entry, lease = await host.load(wish())
        core = max(entry.supervisor.known_pids - {entry.supervisor.pid})
        with host.scheduler.generating(lease.id, "", PROMPT, {}) as stream:
            await stream.next()
            os.kill(core, signal.SIGKILL)
            with pytest.raises(Unavailable) as died:
                await finish(stream)
        await entry.supervisor.ended()

        assert died.value.reason == "ENGINE_DIED"
        assert State.FAILED is entry.supervisor.state
        assert host.scheduler.leases.get(lease.id) is None


async def test_stopping_ends_an_engine_whoever_keeps_it() -> None:
    """An operator's stop ends an engine with leases, and its generations say that it was stopped."""
    async with Host() as host:
        entry, lease = await host.load(wish())
        with host.scheduler.generating(lease.id, "", PROMPT, {}) as stream:
            await stream.next()
            await host.scheduler.stop(entry.supervisor.id, False, "an operator stopped it")
            with pytest.raises(Unavailable, match="an operator stopped it") as stopped:
                await finish(stream)

        assert stopped.value.reason == "ENGINE_STOPPED"
        assert State.STOPPED is entry.supervisor.state


async def test_draining_takes_no_new_work() -> None:
    """A daemon that drains refuses loads, in a way that tells clients to come back."""
    async with Host() as host:
        clean = await host.scheduler.drain(0.0, lambda: False)

        assert clean
        with pytest.raises(Unavailable) as refused, host.scheduler.loading(wish()):
            pass
        assert refused.value.reason == "DRAINING"


async def test_draining_lets_generations_finish() -> None:
    """What runs when a drain begins may run to its end; then the engine goes."""
    async with Host() as host:
        entry, lease = await host.load(wish())
        with host.scheduler.generating(lease.id, "", PROMPT, {"max_tokens": 20}) as stream:
            drain = spawn("drain", host.scheduler.drain(30.0, lambda: False))
            tokens = await finish(stream)
        clean = await drain

        assert tokens == 20
        assert clean
        assert State.STOPPED is entry.supervisor.state


async def test_a_hurried_drain_waits_for_nothing() -> None:
    """Once hurried, neither a generation nor an engine that ignores SIGTERM holds the daemon up."""
    async with Host(stop_grace=600.0) as host:
        hurried = asyncio.Event()
        entry, lease = await host.load(wish(fake_ignore_sigterm=True))
        with host.scheduler.generating(lease.id, "", PROMPT, {}):
            drain = spawn("drain", host.scheduler.drain(0.0, hurried.is_set))
            await host.state(entry, State.STOPPING)
            hurried.set()
            clean = await drain

        assert clean
        assert State.STOPPED is entry.supervisor.state


async def test_a_lease_on_an_engine_that_has_just_ended_is_not_granted() -> None:
    """Between readiness and the lease the engine may die: then the client hears why."""
    async with Host() as host:
        with host.scheduler.loading(wish()) as entry:
            await host.ready(entry)
            await host.scheduler.stop(entry.supervisor.id, True, "a test stops it")
            with pytest.raises(VllmdError, match="a test stops it"):
                host.scheduler.grant(entry, None, held=False)


async def test_owners_maps_every_process_of_an_engine() -> None:
    """Whoever finds a process on a GPU can look up the engine that it belongs to, while that lives."""
    async with Host() as host:
        entry, lease = await host.load(wish(fake_workers=1, fake_load_seconds=0.5))
        owners = host.scheduler.owners()
        await host.scheduler.settled(host.scheduler.release(lease.id))

        assert len(owners) == 3
        assert {entry.supervisor.id} == set(owners.values())
        assert host.scheduler.owners() == {}


async def test_no_more_than_so_many_leases_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody forgets to release them; the engine goes on for those who have one."""
    monkeypatch.setattr(scheduler, "MOST_LEASES", 2)
    async with Host() as host:
        _, first = await host.load(wish())
        await host.load(wish())
        with pytest.raises(Exhausted) as refused:
            await host.load(wish())
        host.scheduler.release(first.id)
        entry, _ = await host.load(wish())

        assert refused.value.reason == "TOO_MANY_LEASES"
        assert host.scheduler.leases.count(entry.supervisor.id) == len(host.scheduler.leases) == 2
