from __future__ import annotations

import asyncio
import time

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import HANGING, Host, finish, hanging, until, wish
from vllmd.engines.state import State
from vllmd.errors import Exhausted, InvalidRequest, Unavailable
from vllmd.scheduler.wish import Wish
from vllmd.tasks import spawn
from vllmd.worker.protocol import TextPrompt

PROMPT = TextPrompt("one two three")


async def test_two_concurrent_loads_share_one_start() -> None:
    """Two clients that ask for one model at once get one engine and a lease each."""
    async with Host() as host:
        (first, one), (second, two) = await asyncio.gather(host.load(wish()), host.load(wish()))
        engines = host.scheduler.engines.entries()

        assert [first] == engines
        assert first is second
        assert one.id != two.id
        assert host.scheduler.leases.count(first.supervisor.id) == 2


async def test_a_wish_that_a_running_engine_grants_already_starts_nothing() -> None:
    """Who leaves its size open gets the engine that runs; who leaves open what it answers does not."""
    async with Host() as host:
        running, _ = await host.load(wish(max_model_len=512, max_num_seqs=8))
        same, _ = await host.load(wish(max_model_len=512))
        plain, _ = await host.load(wish())
        other, _ = await host.load(wish(max_model_len=1024))

        assert running is same
        assert len({running.supervisor.id, plain.supervisor.id, other.supervisor.id}) == 3


async def test_an_engine_that_is_to_stop_is_not_used_again() -> None:
    """A load that comes when the engine is on its way out starts another one."""
    async with Host() as host:
        old, _ = await host.load(wish())
        host.scheduler.engines.ask_to_stop(old, "a test stops it")
        new, _ = await host.load(wish())

        assert old is not new
        assert new.supervisor.state is State.READY


async def test_the_only_waiter_takes_the_start_with_it() -> None:
    """When everybody who waited has gone, the start is killed at once and reclaimed."""
    async with Host() as host:
        async with host.starting(hanging()) as entry:
            pid = entry.supervisor.pid
        await entry.supervisor.ended()
        report = entry.supervisor.report

        assert State.STOPPED is entry.supervisor.state
        assert report is not None
        assert report.verified
        assert pid in report.pids


async def test_one_waiter_of_two_may_go() -> None:
    """A start goes on for as long as anybody waits for it."""
    async with Host() as host:
        async with host.starting(hanging()) as entry:
            with host.scheduler.loading(hanging()) as same:
                pass

            assert entry is same
            assert State.STARTING is entry.supervisor.state
            assert entry.waiting == 1


async def test_a_failed_start_is_told_to_everybody_who_waits() -> None:
    """All who wait for a start get its cause, after what it took is reclaimed."""
    async with Host() as host:
        failing = wish(fake_fail_phase="profiling", fake_error="torch.OutOfMemoryError: CUDA out of memory")
        results = await asyncio.gather(host.load(failing), host.load(failing), return_exceptions=True)
        entry = host.scheduler.engines.entries()[0]

        assert [r.reason for r in results if isinstance(r, Exhausted)] == ["GPU_MEMORY_EXHAUSTED"] * 2
        assert State.FAILED is entry.supervisor.state
        assert entry.supervisor.report is not None
        assert entry.supervisor.report.verified


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Wish("m", engine_args={"trust_remote_code": True}), "ENGINE_ARG_REFUSED"),
        (Wish("m", engine_args={"load_format": "my_plugin"}), "ENGINE_ARG_REFUSED"),
        (Wish("m", engine_args={"load_format": "npcache"}), "ENGINE_ARG_REFUSED"),
        (Wish("m", engine_args={"revision": "main"}), "ENGINE_ARG_REFUSED"),
        (Wish("m", engine_args={"tensor_parallel_size": 0}), "INVALID_ENGINE_ARG"),
        (Wish("m", engine_args={"tokenizer_revision": "../x"}), "INVALID_REVISION"),
        (Wish("m", engine_args={"tokenizer_revision": "/etc"}), "INVALID_REVISION"),
    ],
)
async def test_a_wish_that_can_not_be_granted_makes_no_engine(bad: Wish, reason: str) -> None:
    """What is wrong in the wish itself is said at once, before anything is started."""
    async with Host() as host:
        with pytest.raises(InvalidRequest) as refused, host.scheduler.loading(bad):
            pass

        assert reason == refused.value.reason
        assert host.scheduler.engines.entries() == []


async def test_progress_wakes_who_waits() -> None:
    """A start that is waited for tells of each step it makes."""
    async with Host() as host:
        with host.scheduler.loading(Wish("m", engine_args=HANGING)) as entry:
            await until(entry.supervisor.changes, lambda: entry.supervisor.progress.message == "torch.compile")
            done = await host.scheduler.until_ready(entry, 0.0)

        assert not done


async def test_a_drain_remembers_every_engine_that_was_not_proven_to_be_gone() -> None:
    """One that had failed long before the drain counts, though all that were alive at its begin end well."""
    async with Host(gpu(0), gpu(1), reclaim_timeout=0.1) as host:
        bad, _ = await host.load(wish("fake/bad"))
        host.gpus.leak("GPU-0", GIB)
        await host.scheduler.stop(bad.supervisor.id, False, "a test stops it")
        good, _ = await host.load(wish("fake/good", gpu_memory_utilization=0.2))
        clean = await host.scheduler.drain(0.0, lambda: False)

        assert State.FAILED is bad.supervisor.state
        assert State.STOPPED is good.supervisor.state
        assert good.supervisor.plan is not None
        assert [one.uuid for one in good.supervisor.plan.gpus] == ["GPU-1"]
        assert not clean


async def test_a_drain_lets_no_generation_begin() -> None:
    """What runs may finish, but a client that goes on and on would put the end off until the timeout."""
    async with Host() as host:
        entry, lease = await host.load(wish())
        generating = host.scheduler.generating
        with generating(lease.id, "", PROMPT, {"max_tokens": 20}) as stream:
            drain = spawn("drain", host.scheduler.drain(30.0, lambda: False))
            await stream.next()
            with pytest.raises(Unavailable) as by_lease, generating(lease.id, "", PROMPT, {}):
                pass
            with pytest.raises(Unavailable) as by_name, generating("", entry.supervisor.id, PROMPT, {}):
                pass
            await finish(stream)

        assert await drain
        assert (by_lease.value.reason, by_name.value.reason) == ("DRAINING", "DRAINING")


async def test_whatever_uses_an_engine_keeps_it() -> None:
    """By a lease, which lasts meanwhile and begins anew, or by its name, without one."""
    async with Host() as host:
        entry, lease = await host.load(wish(), ttl=60.0)
        before, using = lease.expires, host.scheduler.using
        with using(lease.id, "") as used, using("", entry.supervisor.id):
            both = used.using
            expired = host.scheduler.leases.expire(time.monotonic() + 100.0)
        after = lease.expires
        with using("", entry.supervisor.id):
            host.scheduler.release(lease.id)
            kept = entry.supervisor.state
        await until(host.scheduler.engines.changed, lambda: entry.supervisor.state.ended)

        assert (used, both) == (entry, 2)
        assert not expired
        assert None not in (before, after)
        assert (after or 0) > (before or 0)
        assert kept is State.READY
        with pytest.raises(Unavailable, match="was stopped"), using("", entry.supervisor.id):
            pass
