from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from tests.fakes.processes import Family, ends, eventually, lives
from vllmd.engines import directory
from vllmd.engines.directory import Owned
from vllmd.engines.process import EngineProcess, Watch, spawn
from vllmd.worker.processes import Identity, marker, read_stat
from vllmd.worker.spec import ENGINE_ID_VARIABLE, SITE, Spec


class Calls:
    """Counts calls, and can be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self._called = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._called.set()

    async def first(self) -> None:
        """Wait for the first."""
        async with asyncio.timeout(5):
            await self._called.wait()


@pytest.fixture
async def owned(root: pathlib.Path, engine_id: str) -> AsyncIterator[Owned]:
    """An engine's directory whose worker says what it was given, and stays."""
    owned = directory.create(root, Spec(engine_id, "fake", "m", {}, None, 60.0, "0", "b"))
    main = owned.path / SITE / "vllmd_worker" / "__main__.py"
    main.write_text(
        "import os, signal, sys\n"
        "print(sys.argv[1:], os.getcwd(), os.getsid(0) == os.getpid(), sorted(os.listdir('/proc/self/fd'))[:-1])\n"
        "print('on stderr', file=sys.stderr, flush=True)\n"
        "os.read(0, 1) or os.write(1, b'no input\\n')\n"
        "signal.pause()\n"
    )
    yield owned
    owned.disown()


async def logged(owned: Owned, text: str) -> str:
    """Wait until the worker's log has a text; returns all of it."""
    assert await asyncio.to_thread(eventually, lambda: text in owned.log.read_text())
    return owned.log.read_text()


def start(engine_id: str, owned: Owned) -> EngineProcess:
    """Spawn the worker."""
    return spawn(engine_id, owned, pathlib.Path(sys.executable), None, os.environ | {ENGINE_ID_VARIABLE: engine_id})


async def test_worker_is_on_its_own(owned: Owned, engine_id: str) -> None:
    """It leads a session, runs where only its package is, and has no descriptor of the daemon's but its log."""
    process = start(engine_id, owned)
    log = await logged(owned, "no input")
    process.tree.kill(5.0)

    assert log.splitlines() == [
        f"['{owned.path}'] {owned.path / SITE} True ['0', '1', '2']",
        "on stderr",
        "no input",
    ]
    assert process.how_it_ended() == "was killed by signal 9"


async def test_worker_is_known_by_more_than_its_pid(owned: Owned, engine_id: str) -> None:
    """Its tree can be found by session and by marker, from the moment it is there."""
    process = start(engine_id, owned)
    stat = read_stat(process.pid)
    await logged(owned, "no input")
    marked = marker(process.pid)
    before = process.how_it_ended()
    process.tree.kill(5.0)
    process.how_it_ended()

    assert stat is not None
    assert process.identity == stat.identity
    assert marked is not None
    assert marked[0] == engine_id
    assert before is None


async def test_log_is_appended_to(owned: Owned, engine_id: str) -> None:
    """So that it can be cut short under the hands of its writers."""
    process = start(engine_id, owned)
    await logged(owned, "no input")
    flags = pathlib.Path(f"/proc/{process.pid}/fdinfo/1").read_text()
    process.tree.kill(5.0)
    process.how_it_ended()

    assert int(flags.split()[3], 8) & os.O_APPEND


async def test_exit_status_is_told(owned: Owned, engine_id: str) -> None:
    """In words, for people."""
    (owned.path / SITE / "vllmd_worker" / "__main__.py").write_text("raise SystemExit(3)")
    process = start(engine_id, owned)
    calls = Calls()
    watch = Watch(process.identity, calls)
    await calls.first()
    watch.close()

    assert process.how_it_ended() == "exited with status 3"


async def test_interpreter_that_is_not_there_is_an_error(owned: Owned, engine_id: str) -> None:
    """Nothing is left open for it."""
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(FileNotFoundError):
        spawn(engine_id, owned, pathlib.Path("/no/such/python"), None, {})
    assert len(os.listdir("/proc/self/fd")) == before


async def test_end_of_a_process_is_noticed_once() -> None:
    """Whoever's child it is."""
    with Family("calm") as family:
        calls = Calls()
        watch = Watch(family.child, calls)
        await asyncio.sleep(0)
        before = calls.count
        os.kill(family.child.pid, signal.SIGKILL)
        await calls.first()
        await asyncio.sleep(0)
        watch.close()

        assert (before, calls.count) == (0, 1)


async def test_process_that_ended_before_is_noticed_too() -> None:
    """But not before whoever watches is ready for it; a recycled pid is another process."""
    with Family("calm") as family:
        calls = Calls()
        watch = Watch(Identity(family.child.pid, family.child.start_ticks - 1), calls)
        during = calls.count
        await calls.first()
        watch.close()

        assert during == 0
        assert lives(family.child)


async def test_closed_watch_keeps_quiet() -> None:
    """Nor does it keep a descriptor, and closing it again is nothing."""
    before = len(os.listdir("/proc/self/fd"))
    with Family("calm") as family:
        calls = Calls()
        watch, gone = Watch(family.child, calls), Watch(Identity(family.child.pid, 1), calls)
        watch.close()
        watch.close()
        gone.close()
        os.kill(family.child.pid, signal.SIGKILL)
        assert ends(family.child, 5.0)
        for _ in range(5):  # turns of the loop, which would find a descriptor that it still watched
            await asyncio.sleep(0)

    assert calls.count == 0
    assert len(os.listdir("/proc/self/fd")) == before
