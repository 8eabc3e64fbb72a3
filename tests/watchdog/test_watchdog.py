from __future__ import annotations

import asyncio
import pathlib
import signal
from collections.abc import Mapping, Sequence

import pytest

from tests.fakes.fake_gpus import GIB
from tests.fakes.foreign import DEADLINE_SECONDS, Foreign, Watched, send, stat_of
from tests.fakes.processes import Family, ends, eventually, lives
from tests.fakes.rules import change
from vllmd.errors import NotFound, NotPossible
from vllmd.events import Kind
from vllmd.gpu.inventory import Gpu
from vllmd.tasks import spawn
from vllmd.watchdog.verdicts import Policy, Verdict


async def test_an_orphan_whose_parent_was_seen_to_die_is_killed(runtime: pathlib.Path) -> None:
    """After its grace, with the worker that holds the memory; every step of it is told, with why."""
    async with Watched(runtime) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker, 40 * GIB)
            await watched.dog.round()
            foreign.lose_launcher()
            await watched.pass_by(9.0)
            early = lives(foreign.core)
            watched.now += 1.0
            await watched.dog.round()
            (reclaim,) = await watched.tells(Kind.RECLAIM)
            (kill,) = watched.told(Kind.KILL)
            verdicts = [event for event in watched.told(Kind.VERDICT) if event.pids == (foreign.worker.pid,)]

            assert early
            assert ends(foreign.core, 5.0)
            assert ends(foreign.worker, 5.0)
            assert reclaim.message == "Gone: 2 processes killed, 40.00 GiB of GPU memory back."
            assert set(kill.pids) == {foreign.core.pid, foreign.worker.pid}
            assert "was seen alive and then dead" in kill.reasons[0]
            assert [dict(event.metadata)["verdict"] for event in verdicts] == ["SUSPECT", "FOREIGN_ORPHAN"]


async def test_an_orphan_of_before_is_killed_if_nobody_uses_it(runtime: pathlib.Path) -> None:
    """A daemon that starts later did not see the parent; pid 1 has adopted it, and its connections lead nowhere."""
    with Foreign("serving", runtime) as foreign:
        foreign.leave_to_pid_1()
        async with Watched(runtime) as watched:
            watched.gpus.hold("GPU-1", foreign.core)
            await watched.pass_by(10.0)
            (reclaim,) = await watched.tells(Kind.RECLAIM)

            assert "is a reaper, and nobody holds the other end" in reclaim.reasons[0]
            assert not lives(foreign.core)
            assert not lives(foreign.worker)


@pytest.mark.parametrize("tcp", [True, False])
async def test_orphans_do_not_keep_each_other_alive(runtime: pathlib.Path, tcp: bool) -> None:
    """The cores of a data-parallel engine and their workers are connected with each other; nobody else is."""
    async with Watched(runtime) as watched:
        with Foreign("group", runtime, tcp=tcp) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            watched.gpus.hold("GPU-1", foreign.client)
            await watched.dog.round()
            foreign.lose_launcher()
            await watched.pass_by(10.0)
            # Of one that ends just now can't be told what it holds: then the other one's turn comes at the next look.
            while any(lives(member) for member in foreign.members.values()):
                told = len(watched.told(Kind.RECLAIM))
                await watched.dog.round()
                await watched.tells(Kind.RECLAIM, told + 1)
            await watched.tells(Kind.KILL, 2)  # of the other one this may come after its death

            killed = {pid for event in watched.told(Kind.KILL) for pid in event.pids}
            assert killed == {member.pid for name, member in foreign.members.items() if name != "launcher"}


async def test_an_orphan_that_hangs_is_killed_too(runtime: pathlib.Path) -> None:
    """A stopped core would stay for ever."""
    async with Watched(runtime) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.core)
            await watched.dog.round()
            send(foreign.core, signal.SIGSTOP)
            foreign.lose_launcher()
            await watched.pass_by(10.0)
            await watched.tells(Kind.RECLAIM)

            assert not lives(foreign.core)


async def test_the_grace_begins_anew_with_another_parent(runtime: pathlib.Path) -> None:
    """The worker of a core that dies is adopted as well; until then it was something else."""
    async with Watched(runtime) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            await watched.dog.round()
            foreign.lose_launcher()
            await watched.pass_by(9.0)
            send(foreign.core, signal.SIGKILL)
            assert eventually(lambda: stat_of(foreign.worker.pid).parent_pid != foreign.core.pid)
            await watched.pass_by(9.0)
            spared = lives(foreign.worker)
            watched.now += 1.0
            await watched.dog.round()
            await watched.tells(Kind.RECLAIM)

            assert spared
            assert not lives(foreign.worker)


@pytest.mark.parametrize("policy", ["report", "ignore"])
async def test_other_policies_do_not_kill(runtime: pathlib.Path, policy: Policy) -> None:
    """One tells and leaves it to an operator, the other does not even tell."""
    async with Watched(runtime, policy=policy) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.core)
            await watched.dog.round()
            foreign.lose_launcher()
            await watched.pass_by(1000.0)
            listed = await watched.listed(foreign.core)
            mine = [event for event in watched.told(Kind.VERDICT) if event.pids == (foreign.core.pid,)]

            assert lives(foreign.core)
            assert listed.judged.judgement.verdict is Verdict.FOREIGN_ORPHAN
            assert f"the policy is to {policy} such" in listed.reasons
            assert listed.doomed is (policy == "report")
            assert len(mine) == (2 if policy == "report" else 1)


async def test_neighbours_that_start_or_end_come_first(runtime: pathlib.Path) -> None:
    """vLLM measures its own memory by the whole GPU's, so nothing that can wait happens meanwhile."""
    busy = {"GPU-0"}
    async with Watched(runtime, busy=lambda: frozenset(busy)) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            await watched.dog.round()
            foreign.lose_launcher()
            await watched.pass_by(1000.0)
            waiting = await watched.listed(foreign.core)
            spared = lives(foreign.core)
            busy.clear()
            await watched.dog.round()
            await watched.tells(Kind.RECLAIM)

            assert spared
            assert not waiting.doomed
            assert not lives(foreign.core)


async def test_an_operator_need_not_wait(runtime: pathlib.Path) -> None:
    """A reclaim acts at once, and answers with what it was and what it gave back; a worker stands for its tree."""
    async with Watched(runtime) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            await watched.dog.round()
            foreign.lose_launcher()
            plan = await watched.dog.doomed(foreign.worker.pid)
            planned = lives(foreign.core)
            listed, (report,) = await watched.dog.reclaim(foreign.worker.pid)

            assert planned
            assert [one.judged.pid for one in plan] == [one.judged.pid for one in listed]
            assert [one.judged.pid for one in listed] == [foreign.core.pid, foreign.worker.pid]
            assert report.verified
            assert report.gpus[0].used_bytes_before - report.gpus[0].used_bytes_after == GIB
            assert not lives(foreign.core)


async def test_an_operator_needs_the_proof_all_the_same(runtime: pathlib.Path) -> None:
    """Whoever names a process that is well, or none at all, is told so, and nothing happens."""
    async with Watched(runtime) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            with pytest.raises(NotPossible) as refused:
                await watched.dog.reclaim(foreign.core.pid)
            with pytest.raises(NotFound):
                await watched.dog.reclaim(2**22 - 1)
            everything = await watched.dog.reclaim()

            assert "is alive" in refused.value.message
            assert foreign.core.pid not in [one.judged.pid for one in everything[0]]
            assert lives(foreign.core)


async def test_what_is_left_of_an_engine_of_ours_goes_at_once(engine_id: str, runtime: pathlib.Path) -> None:
    """It waits for no grace; with its directory, as any engine's end."""
    living = {engine_id}
    (runtime / engine_id).mkdir()
    async with Watched(runtime, living=lambda: frozenset(living)) as watched:
        with Family("named", engine_id, directory=runtime / engine_id) as family:
            watched.gpus.hold("GPU-0", family.child)
            owned = await watched.verdict(family.child)
            await watched.dog.round()
            spared = lives(family.child)
            living.clear()
            await watched.dog.round()
            (reclaim,) = await watched.tells(Kind.RECLAIM)

            assert owned is Verdict.OWNED
            assert spared
            assert reclaim.engine == engine_id
            assert not any(lives(member) for member in family.members)
            assert not (runtime / engine_id).exists()


async def test_it_looks_again_and_again(runtime: pathlib.Path) -> None:
    """A look that fails ends nothing."""
    async with Watched(runtime, interval=0.01) as watched:
        failed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def fail() -> None:
            loop.call_soon_threadsafe(failed.set)
            raise ValueError("a test breaks this look")

        watched.gpus.on_snapshot(2, fail)
        running = spawn("watchdog of a test", watched.dog.run())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await failed.wait()
            while watched.gpus.snapshots < 3:
                await asyncio.sleep(0.002)
        running.cancel()


async def test_rules_that_change_hold_from_the_next_look(runtime: pathlib.Path) -> None:
    """How long to wait for that as well, once it is poked."""
    async with Watched(runtime, interval=3600.0) as watched:
        running = spawn("watchdog of a test", watched.dog.run())
        async with asyncio.timeout(DEADLINE_SECONDS):
            while watched.gpus.snapshots < 1:
                await asyncio.sleep(0.002)
            change(watched.live, watchdog_interval=0.01, foreign_orphans="report", orphan_grace=77.0)
            watched.dog.poke()
            while watched.gpus.snapshots < 4:
                await asyncio.sleep(0.002)
        running.cancel()

        assert (watched.dog.policy, watched.dog.grace) == ("report", 77.0)


async def test_the_death_of_a_parent_is_looked_at_at_once(runtime: pathlib.Path) -> None:
    """Not only when the time has come."""
    async with Watched(runtime, interval=3600.0) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.core)
            running = spawn("watchdog of a test", watched.dog.run())
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not any(event.pids == (foreign.core.pid,) for event in watched.told(Kind.VERDICT)):
                    await watched.events.changed.wait()
                foreign.lose_launcher()
                while not any("FOREIGN_ORPHAN, and was" in event.message for event in watched.told(Kind.VERDICT)):
                    await watched.events.changed.wait()
            running.cancel()


async def test_memory_of_nobody_is_told(runtime: pathlib.Path) -> None:
    """Once when it has stood for a while, and once when it is over."""
    async with Watched(runtime) as watched:
        await watched.dog.round()
        watched.gpus.driver_bytes = 3 * GIB
        await watched.pass_by(10.0)
        watched.gpus.driver_bytes = GIB
        await watched.dog.round()
        found = [event for event in watched.told(Kind.LEAK) if event.gpus == ("GPU-1",)]

        assert [event.message for event in found] == [
            "2.00 GiB of GPU GPU-1 are in use, and no process holds them.",
            "GPU GPU-1 has the memory back that no process held.",
        ]


async def test_each_look_tells_what_our_engines_hold(runtime: pathlib.Path, engine_id: str) -> None:
    """By the driver's word, with the GPUs as they were: the peak of a load is found among these looks."""
    looks: list[tuple[list[int], Mapping[str, Mapping[str, int]]]] = []

    def weighed(gpus: Sequence[Gpu], held: Mapping[str, Mapping[str, int]]) -> None:
        looks.append(([gpu.used_bytes for gpu in gpus], held))

    async with Watched(runtime, living=lambda: frozenset({engine_id}), weighed=weighed) as watched:
        with Family("calm", engine_id, directory=runtime / engine_id) as family, Family("calm") as other:
            watched.gpus.hold("GPU-0", family.child, 3 * GIB)
            watched.gpus.hold("GPU-0", other.child, 7 * GIB)
            await watched.dog.round()
            watched.gpus.tells_shares = False
            await watched.dog.round()

    assert looks == [([11 * GIB, GIB], {engine_id: {"GPU-0": 3 * GIB}}), ([11 * GIB, GIB], {engine_id: {}})]
