from __future__ import annotations

import dataclasses
import shutil
import tarfile
import time
from pathlib import Path

import pytest

from tests.fakes.fake_gpus import gpu
from tests.fakes.host import DEADLINE_SECONDS, Host, finish, hanging, wish
from vllmd.engines import directory, process
from vllmd.engines.environment import engine_environment
from vllmd.engines.state import State
from vllmd.errors import NotPossible, Unavailable
from vllmd.planner.choice import Choice
from vllmd.planner.planning import Plan
from vllmd.scheduler import adoption, journal
from vllmd.scheduler.journal import Contents, EngineRecord, LeaseRecord
from vllmd.scheduler.leases import LeaseBook
from vllmd.scheduler.scheduler import Scheduler
from vllmd.tasks import spawn
from vllmd.worker.processes import boot_id
from vllmd.worker.protocol import TextPrompt
from vllmd.worker.spec import SITE, Spec

PROMPT = TextPrompt("once upon a time")
OLD_WORKER = Path(__file__).parent.parent / "data" / "worker-protocol-1.tar.gz"


def successor(host: Host) -> tuple[Scheduler, frozenset[str]]:
    """The scheduler of the daemon after this one, and what it has taken over."""
    earlier = adoption.contents(host.scheduler.engines.alive(), host.scheduler.leases)
    path = host.directory / "journal"
    journal.write(path, earlier)
    read = journal.read(path, boot_id())
    assert read == earlier
    scheduler = Scheduler(host.ground, host.quarantines)
    return scheduler, scheduler.adopt(read)


async def test_an_engine_goes_to_the_next_daemon_with_its_leases() -> None:
    """The same processes serve, under the same names; what was generated on it before is not."""
    async with Host() as host:
        wanted = dataclasses.replace(wish(max_model_len=777), lora={"sql": "/a/sql"})
        entry, lease = await host.load(wanted)
        pid = entry.supervisor.pid
        await host.scheduler.hand_over()
        host.scheduler, adopted = successor(host)
        await adoption.linked_up(host.scheduler.engines, adopted, DEADLINE_SECONDS)
        again = host.scheduler.engines.get(entry.supervisor.id)
        again.check_adapter("sql")
        with host.scheduler.generating(lease.id, "", PROMPT, {"max_tokens": 5}, lora="sql") as stream:
            text = (await stream.next()).text
            tokens = await finish(stream)

        assert adopted == {entry.supervisor.id}
        assert text.startswith("sql0 ")
        assert again.supervisor.state is State.READY
        assert again.supervisor.adopted
        assert again.supervisor.pid == pid
        assert again.supervisor.ready == entry.supervisor.ready
        assert again.supervisor.plan == entry.supervisor.plan
        assert again.wish == entry.wish
        assert tokens == 5
        same, _ = await host.load(wanted)
        assert same is again


async def test_an_engine_whose_gpu_was_lost_meanwhile_fails() -> None:
    """The next daemon has never seen the GPU, and misses it all the same."""
    async with Host(gpu(), reclaim_timeout=0.05) as host:
        entry, _ = await host.load(wish(tensor_parallel_size=1))
        await host.scheduler.hand_over()
        host.gpus.lose("GPU-0")
        host.scheduler, _ = successor(host)
        host.ground.losses.observe(await host.monitor.snapshot())
        host.scheduler.engines.fail_lost()
        again = host.scheduler.engines.get(entry.supervisor.id)
        await host.state(again, State.FAILED)

        assert again.supervisor.failure is not None
        assert again.supervisor.failure.reason == "GPU_LOST"


async def test_an_engine_that_starts_goes_to_the_next_daemon() -> None:
    """No model is loaded again because the daemon was; who waited for it asks again, and finds it."""
    async with Host() as host:
        with host.scheduler.loading(wish(fake_load_seconds=1.5)) as entry:
            await host.state(entry, State.STARTING)
            while entry.supervisor.progress.weights_fraction is None:
                await entry.supervisor.changes.wait(DEADLINE_SECONDS)
            await host.scheduler.hand_over()
            host.scheduler, adopted = successor(host)
        again, _ = await host.load(wish(fake_load_seconds=1.5))

        assert adopted == {again.supervisor.id} == {entry.supervisor.id}
        assert again.supervisor.state is State.READY


async def test_what_died_with_its_daemon_and_has_no_lease_is_not_taken_over() -> None:
    """Nor what had no processes yet: both are left to the reclaim, and whoever waited for them asks again."""
    async with Host(idle_timeout=600.0) as host:
        entry, lease = await host.load(wish())
        host.scheduler.release(lease.id)
        with host.scheduler.loading(hanging("fake/b")) as starting:
            await host.state(starting, State.STARTING)
            with host.scheduler.loading(hanging("fake/c")):
                await host.scheduler.hand_over()
                for tree in (entry.supervisor.tree, starting.supervisor.tree):
                    assert tree is not None
                    tree.kill(5.0)
                host.scheduler, adopted = successor(host)
        for left in (entry, starting):
            shutil.rmtree(host.ground.root / left.supervisor.id)

        assert adopted == frozenset()


async def test_an_end_that_was_asked_for_comes_after_an_upgrade_too() -> None:
    """Its engine does not serve again; who waits for the end is told to ask the next daemon."""
    async with Host(stop_grace=600.0) as host:
        entry, _ = await host.load(wish(fake_ignore_sigterm=True))
        stopping = spawn("stop", host.scheduler.stop(entry.supervisor.id, False, "a test stops it"))
        await host.state(entry, State.STOPPING)
        await host.scheduler.hand_over()
        with pytest.raises(Unavailable, match="is being upgraded"):
            await stopping
        tree = entry.supervisor.tree
        assert tree is not None
        host.scheduler, adopted = successor(host)
        tree.kill(5.0)
        shutil.rmtree(host.ground.root / entry.supervisor.id)

        assert adopted == frozenset()


async def test_a_worker_of_the_protocol_before_goes_on_under_this_daemon() -> None:
    """As after an upgrade: it was started by the code of then, and understands no pings."""
    async with Host() as host:
        engine_id, plan = "old-1", Plan((Choice("fake_load_seconds", 0, "client", ""),), ())
        spec = Spec(engine_id, "fake", "m", plan.engine_args, None, 60.0, "0.0", boot_id())
        owned = directory.create(host.ground.root, spec)
        shutil.rmtree(owned.path / SITE / "vllmd_worker")
        with tarfile.open(OLD_WORKER) as archive:
            archive.extractall(owned.path / SITE, filter="data")
        environment = engine_environment(engine_id, owned.path, host.ground.cache, (), 60.0, {})
        started = process.spawn(engine_id, owned, host.ground.python, None, environment)
        while not (owned.path / "progress.jsonl").exists():
            assert started.how_it_ended() is None
        owned.disown()
        started.let_go()
        record = EngineRecord(
            id=engine_id, model="m", revision="", engine_args={}, auto_config=True, plan=plan, created=1.0,
            spawned=1.0, ready=None, restarted=[],
        )  # fmt: skip
        adopted = host.scheduler.adopt(Contents(boot_id=boot_id(), engines=[record], leases=[]))
        entry = host.scheduler.engines.get(engine_id)
        await host.state(entry, State.READY)
        link = entry.supervisor.link
        assert link is not None
        with host.scheduler.generating("", engine_id, PROMPT, {"max_tokens": 5}) as stream:
            tokens = await finish(stream)
        link.ping()

        assert adopted == {engine_id}
        with pytest.raises(NotPossible, match="started by an earlier vllmd") as refused:
            entry.check_adapter("sql")

        assert refused.value.reason == "ENGINE_OUTDATED"
        assert link.hello.protocol == 1
        assert link.vitals.unanswered is None
        assert tokens == 5
        await host.scheduler.stop(engine_id, True, "the test is over")


def test_every_client_gets_some_time_to_come_back() -> None:
    """Also one whose lease was held by a stream, which is broken now, or was about to end."""
    now = time.time()
    earlier = Contents(
        boot_id="b",
        engines=[],
        leases=[
            LeaseRecord(id="held", engine_id="e", ttl=None, expires=None),
            LeaseRecord(id="old", engine_id="e", ttl=300.0, expires=now - 5),
            LeaseRecord(id="short", engine_id="e", ttl=2.0, expires=now + 1),
            LeaseRecord(id="long", engine_id="e", ttl=3600.0, expires=now + 3000),
            LeaseRecord(id="lost", engine_id="gone", ttl=300.0, expires=now + 300),
        ],
    )
    book = LeaseBook()
    adoption.restore(earlier, frozenset({"e"}), book)
    left = {lease.id: round((lease.expires or 0.0) - time.monotonic()) for lease in book}

    assert left == {"held": 60, "old": 60, "short": 2, "long": 3000}
