from __future__ import annotations

import asyncio

import pytest

from tests.fakes.host import QUICK, Host, finish, hanging, wish
from vllmd.errors import NotFound, NotPossible, Unavailable
from vllmd.scheduler.wish import Wish
from vllmd.worker.protocol import TextPrompt


async def test_an_engine_is_usable_from_its_creation_until_its_end() -> None:
    """PENDING, STARTING and READY engines are there to be shared; those on their way out are not."""
    async with Host() as host:
        with host.scheduler.loading(wish()) as entry:
            pending = entry.usable, entry.loading
            await host.ready(entry)
            ready = entry.usable, entry.loading
            host.scheduler.engines.ask_to_stop(entry, "a test stops it")
            leaving = entry.usable
            await entry.supervisor.ended()

        assert pending == (True, True)
        assert ready == (True, False)
        assert not leaving
        assert not entry.usable


async def test_an_engine_that_starts_is_loading() -> None:
    """It counts as loading until it is ready, with processes or without."""
    async with Host() as host, host.starting(hanging()) as entry:
        assert entry.loading
        assert entry.usable


async def test_what_the_plan_chose_counts_for_later_wishes() -> None:
    """A wish that names what auto-config chose anyway is granted by the same engine."""
    async with Host() as host:
        entry = host.scheduler.engines.add(wish())
        before = entry.satisfies(wish(kv_cache_memory_bytes=1 << 30))
        await host.ready(entry)

        assert not before
        assert entry.satisfies(wish(kv_cache_memory_bytes=1 << 30))
        assert not entry.satisfies(wish(kv_cache_memory_bytes=1 << 20))


async def test_who_needs_an_engine_is_told() -> None:
    """Those who wait for it and those who have leases on it; what it generates just now brings nobody back."""
    async with Host() as host:
        with host.scheduler.loading(wish()) as entry:
            waiting = entry.wanted(host.scheduler.leases)
            await host.ready(entry)
            first = host.scheduler.grant(entry, 60.0, False)
        one = entry.wanted(host.scheduler.leases)
        host.scheduler.grant(entry, 60.0, False)
        two = entry.wanted(host.scheduler.leases)
        with host.scheduler.generating(first.id, "", TextPrompt("a b"), {"max_tokens": 4000}):
            host.scheduler.leases.drop_engine(entry.supervisor.id)
            nobody = entry.wanted(host.scheduler.leases)

        assert (waiting, one) == ("a client waits for it", "there is a lease on it")
        assert (two, nobody) == ("there are 2 leases on it", "")


async def test_tokens_are_counted_while_it_serves() -> None:
    """The count is that of the engine's link, and the rate is zero before there are samples."""
    async with Host() as host:
        entry, lease = await host.load(wish(fake_tokens_per_second=0))
        fresh = entry.generated_tokens, entry.tokens_per_second()
        with host.scheduler.generating(lease.id, "", TextPrompt("a b"), {"max_tokens": 30}) as stream:
            await finish(stream)
        entry.sample()

        assert fresh == (0, 0.0)
        assert entry.generated_tokens == 30
        assert entry.tokens_per_second() >= 0.0


async def test_the_time_that_an_engine_stays_idle_can_be_moved() -> None:
    """By what a rule has changed; one that is not idle has no such time."""
    async with Host(idle_timeout=600.0) as host:
        entry, lease = await host.load(wish())
        entry.put_off(-600.0, lambda entry: None)
        busy = entry.idle_timer
        host.scheduler.release(lease.id)
        timer = entry.idle_timer
        assert timer is not None
        over = asyncio.Event()
        entry.put_off(100.0, lambda entry: over.set())
        later = entry.idle_timer
        assert later is not None
        entry.put_off(-700.0, lambda entry: over.set())
        async with asyncio.timeout(20):
            await over.wait()

        assert busy is None
        assert timer.cancelled()
        assert later.when() == timer.when() + 100.0


async def test_an_adapter_that_it_has_not_is_told_with_those_that_it_has() -> None:
    """So that one who mistyped sees it; a name of any length does not fill the message."""
    async with Host() as host:
        without, _ = await host.load(wish())
        entry, _ = await host.load(Wish("fake/adapted", engine_args=QUICK, lora={"b": "/b", "a": "/a"}))
        entry.check_adapter("a")
        with pytest.raises(NotFound, match="has no LoRA adapter 'x'; it has a, b") as refused:
            entry.check_adapter("x")
        with pytest.raises(NotFound, match="it has none") as alone:
            without.check_adapter("a" * 1000)

        assert refused.value.reason == "LORA_NOT_FOUND"
        assert refused.value.metadata == {"engine": entry.supervisor.id, "lora": "x", "known": "a, b"}
        assert len(alone.value.message) < 200


async def test_an_engine_has_a_link_only_while_it_serves() -> None:
    """Before that who asks for it is told to wait, after that why there is none."""
    async with Host() as host:
        with host.scheduler.loading(wish()) as entry:
            with pytest.raises(NotPossible) as early:
                entry.link()
            await host.ready(entry)
            serves = entry.link().open
            host.scheduler.engines.ask_to_stop(entry, "a test stops it")
            with pytest.raises(Unavailable) as late:
                entry.link()

        assert early.value.reason == "ENGINE_NOT_READY"
        assert serves
        assert late.value.reason == "ENGINE_STOPPED"
