from __future__ import annotations

import asyncio

import pytest

from tests.fakes.host import Host, finish, hanging, wish
from vllmd.engines.progress import Phase
from vllmd.engines.state import State
from vllmd.errors import Unavailable
from vllmd.scheduler import adoption
from vllmd.scheduler.scheduler import Scheduler
from vllmd.tasks import spawn
from vllmd.worker.protocol import TextPrompt

PROMPT = TextPrompt("once upon a time")


async def test_an_upgrade_ends_what_runs_and_takes_nothing_new_but_ends_no_engine() -> None:
    """Clients are told when to try again; the engine's processes do not notice."""
    async with Host() as host:
        entry, lease = await host.load(wish())
        tree = entry.supervisor.tree
        with host.scheduler.generating(lease.id, "", PROMPT, {"max_tokens": 4000}) as stream:
            await stream.next()
            earlier = adoption.contents(host.scheduler.engines.alive(), host.scheduler.leases)
            await host.scheduler.hand_over()
            with pytest.raises(Unavailable) as ended:
                await finish(stream)
        with pytest.raises(Unavailable) as refused:
            await host.load(wish())
        with pytest.raises(Unavailable) as also, host.scheduler.generating(lease.id, "", PROMPT, {}):
            pass
        assert tree is not None
        alive = len(tree.members())
        host.scheduler = Scheduler(host.ground, host.quarantines)
        host.scheduler.adopt(earlier)

        assert {error.value.reason for error in (ended, refused, also)} == {"UPGRADING"}
        assert {error.value.retry_seconds for error in (ended, refused, also)} == {1.0}
        assert alive == 2
        assert State.READY is entry.supervisor.state


async def test_who_waits_for_a_start_is_told_to_ask_again() -> None:
    """The start goes on; what they wait for comes in the next code."""
    async with Host() as host:
        with host.scheduler.loading(hanging()) as entry:
            await host.state(entry, State.STARTING)
            earlier = adoption.contents(host.scheduler.engines.alive(), host.scheduler.leases)
            while entry.supervisor.progress.phase < Phase.IMPORTING:
                await entry.supervisor.changes.wait(20.0)
            waiting = spawn("wait", host.scheduler.until_ready(entry, 20.0))
            await asyncio.sleep(0)
            await host.scheduler.hand_over()
            with pytest.raises(Unavailable) as told:
                await waiting
        host.scheduler = Scheduler(host.ground, host.quarantines)
        adopted = host.scheduler.adopt(earlier)

        assert told.value.reason == "UPGRADING"
        assert adopted == {entry.supervisor.id}


async def test_a_drain_ends_every_engine_and_tells_whether_it_is_proven() -> None:
    """An idle host is drained at once."""
    async with Host() as host:
        entry, _ = await host.load(wish())

        assert await host.scheduler.drain(0.0, lambda: False)
        assert State.STOPPED is entry.supervisor.state
