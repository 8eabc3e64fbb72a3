from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.engines.conftest import MakeGround
from tests.fakes.processes import eventually
from tests.fakes.rules import change
from vllmd.config import Live
from vllmd.engines import incarnation
from vllmd.engines.incarnation import Incarnation
from vllmd.engines.launch import launch
from vllmd.engines.predecessor import survivor
from vllmd.engines.process import EngineProcess
from vllmd.engines.progress import LoadProgress, Phase
from vllmd.errors import Unavailable
from vllmd.planner.choice import Choice
from vllmd.planner.planning import Plan
from vllmd.worker.processes import processes

GONE = Unavailable("ENGINE_STOPPED", "it was stopped")


class Notes:
    """Writes down what an incarnation tells."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.progress: list[LoadProgress] = []

    def advanced(self, progress: LoadProgress) -> None:
        self.progress.append(progress)

    def loaded(self) -> None:
        self.told.put_nowait(("loaded", None))

    def not_loaded(self, errors: tuple[str, ...]) -> None:
        self.told.put_nowait(("not loaded", errors))

    def late(self) -> None:
        self.told.put_nowait(("late", None))

    def worker_ended(self, how: str) -> None:
        self.told.put_nowait(("worker ended", how))

    def broke(self, what: str) -> None:
        self.told.put_nowait(("broke", what))

    def stalled(self, why: str) -> None:
        self.told.put_nowait(("stalled", why))

    async def next(self) -> tuple[str, Any]:
        """Wait for what is told next."""
        async with asyncio.timeout(20):
            return await self.told.get()


class Case:
    """Makes incarnations of one engine."""

    def __init__(self, engine_id: str, make_ground: MakeGround) -> None:
        self.id = engine_id
        self.make_ground = make_ground
        self.notes = Notes()
        self.live: Live
        """The rules of the last one that was spawned."""
        self.made: list[Incarnation] = []

    def spawn(self, stall_timeout: float = 120.0, load_timeout: float = 30.0, **engine_args: Any) -> Incarnation:
        """Spawn it."""
        arguments = {"fake_load_seconds": 0} | engine_args
        plan = Plan(tuple(Choice(name, value, "client", "") for name, value in arguments.items()), ())
        ground = self.make_ground(stall_timeout=stall_timeout, load_timeout=load_timeout)
        self.live = ground.live
        owned, process = launch(self.id, "m", plan, (), ground)
        self.made.append(Incarnation(self.id, owned, process, ground, self.notes))
        return self.made[-1]

    def adopt(self, earlier: Incarnation) -> Incarnation:
        """Take it over from an earlier one."""
        earlier.let_go(GONE)
        earlier.owned.disown()
        earlier.process.let_go()
        found = survivor(earlier.owned.path)
        assert found is not None
        process = EngineProcess(None, found.tree)
        self.made.append(Incarnation(self.id, found.owned, process, self.make_ground(), self.notes))
        return self.made[-1]

    def core(self) -> int:
        """EngineCore's pid."""
        seen = self.made[-1].seen
        return next(s.identity.pid for s in processes() if s.identity in seen and s.name == "VLLM::EngineCor")


@pytest.fixture
async def case(engine_id: str, make_ground: MakeGround) -> AsyncIterator[Case]:
    """An engine that has not been spawned; it is killed after the test."""
    case = Case(engine_id, make_ground)
    yield case
    for run in case.made:
        run.let_go(GONE)
        await asyncio.to_thread(run.process.tree.kill, 5.0)
        run.process.how_it_ended()


async def test_a_start_is_followed_until_it_serves(case: Case) -> None:
    """Then there is a link, and all its processes have been seen."""
    run = case.spawn(fake_workers=2, fake_load_seconds=0.5)

    assert await case.notes.next() == ("loaded", None)
    assert run.link is not None
    assert run.info is not None
    assert run.info.vllm_version == "fake"
    assert len(run.seen) == 4
    assert len(case.notes.progress) > 1


async def test_a_killed_worker_is_told_by_how_it_ended(case: Case) -> None:
    """Its broken link, which is noticed first, tells nobody anything."""
    run = case.spawn(fake_leave_core=True)
    await case.notes.next()
    os.kill(run.process.pid, signal.SIGKILL)

    assert await case.notes.next() == ("worker ended", "was killed by signal 9")


async def test_a_core_that_is_stopped_is_found_out(case: Case) -> None:
    """Nothing else would notice: it has not died, and its worker is well. What all of them did is in the log."""
    case.spawn(stall_timeout=0.5)
    await case.notes.next()
    os.kill(case.core(), signal.SIGSTOP)
    what, why = await case.notes.next()

    assert what == "stalled"
    assert "a ping through EngineCore has had no answer" in why
    assert await asyncio.to_thread(eventually, lambda: "most recent call first" in "\n".join(case.made[0].lines(200)))


async def test_a_core_is_found_out_by_the_rule_that_is_in_force(case: Case) -> None:
    """Also if that came only when the engine was running."""
    case.spawn(stall_timeout=600.0)
    await case.notes.next()
    change(case.live, stall_timeout=0.5)
    os.kill(case.core(), signal.SIGSTOP)
    what, _ = await case.notes.next()

    assert what == "stalled"


async def test_a_start_that_takes_too_long_is_told(case: Case) -> None:
    """It goes on until somebody ends it."""
    run = case.spawn(load_timeout=0.2, fake_hang_phase="compiling")

    assert await case.notes.next() == ("late", None)
    assert run.process.how_it_ended() is None


async def test_a_log_is_bounded_also_after_the_disk_has_failed(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What failed once is tried again for as long as the engine lives."""
    monkeypatch.setattr(incarnation, "_HOUSEKEEPING_SECONDS", 0.01)
    run = case.spawn()
    await case.notes.next()
    log = run.owned.log
    log.rename(log.with_name("aside"))
    log.mkdir()
    failed = await asyncio.to_thread(eventually, lambda: "can't be kept from growing" in caplog.text)
    log.rmdir()
    log.write_bytes(b"a\n" * (1 << 20))
    bounded = await asyncio.to_thread(eventually, lambda: log.stat().st_size < 1 << 20)

    assert (failed, bounded) == (True, True)


async def test_an_engine_that_serves_is_taken_over(case: Case) -> None:
    """It is linked up with anew, and its end is noticed, though nobody can tell how it came."""
    first = case.spawn()
    await case.notes.next()
    second = case.adopt(first)
    taken = await case.notes.next()
    os.kill(second.process.pid, signal.SIGTERM)
    ended = await case.notes.next()

    assert taken == ("loaded", None)
    assert second.info == first.info
    assert second.seen == first.seen
    assert ended[0] in ("worker ended", "broke")


async def test_an_engine_that_starts_is_taken_over(case: Case) -> None:
    """Its start goes on where it is."""
    first = case.spawn(fake_load_seconds=1.0)
    async with asyncio.timeout(20):
        while not any(progress.phase > Phase.SPAWNING for progress in case.notes.progress):
            await asyncio.sleep(0.01)
    case.adopt(first)

    assert await case.notes.next() == ("loaded", None)


async def test_an_engine_that_is_gone_is_not_taken_over(case: Case, make_ground: MakeGround) -> None:
    """Nor is one that has an owner."""
    run = case.spawn()
    await case.notes.next()
    owned = survivor(run.owned.path)
    run.let_go(GONE)
    run.owned.disown()
    await asyncio.to_thread(run.process.tree.kill, 5.0)

    assert owned is None
    assert survivor(run.owned.path) is None
    assert survivor(pathlib.Path(run.owned.path.parent / "nobody")) is None


def test_the_exit_status_of_what_this_process_started_is_known_after_new_code(tmp_path: pathlib.Path) -> None:
    """Executing new code keeps a process's children, though the new code has not started them."""
    program = (
        "import os, subprocess, sys, time\n"
        "from vllmd.engines.process import EngineProcess\n"
        "from vllmd.worker.processes import read_stat\n"
        "from vllmd.worker.tree import Tree\n"
        "child = subprocess.Popen(['sh', '-c', 'exit 3'])\n"
        "process = EngineProcess(None, Tree('e', read_stat(child.pid).identity, None))\n"
        "os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)\n"
        "print(process.how_it_ended(), '/', process.how_it_ended())\n"
        "child.returncode = 0\n"
    )
    told = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=tmp_path)

    assert told == "exited with status 3 / exited with status 3\n"
