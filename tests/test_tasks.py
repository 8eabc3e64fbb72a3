from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref

import pytest

from tests.fakes.processes import eventually
from vllmd import tasks
from vllmd.errors import Unavailable
from vllmd.tasks import MOST_BLOCKED, Signal, in_thread, repeat, spawn


async def test_a_task_has_its_name_and_its_result() -> None:
    """Whoever wants to may wait for it."""

    async def work() -> int:
        return 7

    task = spawn("count the GPUs", work())

    assert task.get_name() == "count the GPUs"
    assert await task == 7


async def test_a_task_is_kept_alive() -> None:
    """Nobody but the helper has to hold it, even if all it waits for is in a cycle with it."""
    woken = asyncio.Event()

    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    reference = weakref.ref(spawn("wait for ever", work()))
    asyncio.get_running_loop().call_soon(woken.set)
    await woken.wait()
    gc.collect()
    task = reference()

    assert task is not None
    task.cancel()


async def test_the_failure_of_a_task_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A failure that nobody waits for is seen all the same, with the name of the task."""

    async def work() -> None:
        raise ValueError("it broke")

    with caplog.at_level(logging.ERROR):
        await asyncio.wait([spawn("break", work())])

    assert "task break failed" in caplog.text
    assert "it broke" in caplog.text


async def test_a_cancelled_task_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """What is ended on purpose is not reported."""
    task = spawn("wait", asyncio.Event().wait())
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert caplog.text == ""


async def test_a_signal_wakes_all_who_wait() -> None:
    """Each of them is told that a change came."""
    signal = Signal()
    waiting = [spawn("wait", signal.wait(20)) for _ in range(3)]
    asyncio.get_running_loop().call_soon(signal.notify)

    assert await asyncio.gather(*waiting) == [True] * 3


async def test_who_comes_late_waits_for_the_next_change() -> None:
    """A signal has no memory."""
    signal = Signal()
    signal.notify()

    assert not await signal.wait(0.01)


async def test_giving_up_leaves_nothing_behind() -> None:
    """A waiter that timed out or was cancelled is not woken later, nor kept."""
    signal = Signal()
    task = spawn("wait", signal.wait())
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.wait([task])
    timed_out = await signal.wait(0.0)
    signal.notify()

    assert task.cancelled()
    assert not timed_out
    assert not signal._waiting


async def test_what_blocks_is_done_beside_the_loop() -> None:
    """The answer, or what was raised in place of one, comes back to who asked."""

    def fail() -> None:
        raise FileNotFoundError("no such thing")

    assert await in_thread("a test", threading.current_thread, 20) is not threading.current_thread()
    with pytest.raises(FileNotFoundError, match="no such thing"):
        await in_thread("a test", fail, 20)


async def test_what_hangs_is_given_up_and_can_not_pile_up() -> None:
    """Each call that hangs keeps its place until it ends; once all are taken, nothing more is tried."""
    end = threading.Event()
    for _ in range(MOST_BLOCKED):
        with pytest.raises(Unavailable, match="do not answer"):
            await in_thread("a test", end.wait, 0.01)
    with pytest.raises(Unavailable, match="not tried"):
        await in_thread("a test", end.wait, 20)
    end.set()

    assert await asyncio.to_thread(eventually, lambda: tasks._places._value == MOST_BLOCKED)
    assert await in_thread("a test", end.wait, 20)


async def test_what_is_repeated_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Of its own and of its neighbours."""
    calls: list[str] = []

    def failing() -> None:
        calls.append("failing")
        raise ValueError("a mistake")

    task = spawn("repeated", repeat("a tick", 0.001, failing, lambda: calls.append("other")))
    async with asyncio.timeout(20):
        while len(calls) < 4:
            await asyncio.sleep(0.001)
    task.cancel()

    assert calls[:4] == ["failing", "other", "failing", "other"]
    assert "a tick failed" in caplog.text
    assert "a mistake" in caplog.text
