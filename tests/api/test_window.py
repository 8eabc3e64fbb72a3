from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from vllmd.api.window import DEFAULT_WIDTH, MOST, MOST_LARGE, completing, width
from vllmd.engines.supervisor import Supervisor
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.wish import Wish
from vllmd.tasks import spawn
from vllmd.worker.report import EngineInfo, Measured


class Work:
    """Pieces of work, each of which ends when the test says so."""

    def __init__(self, count: int) -> None:
        self.gates = [asyncio.get_running_loop().create_future() for _ in range(count)]
        self.begun: list[int] = []
        self.cancelled: list[int] = []

    async def one(self, index: int) -> int:
        self.begun.append(index)
        try:
            await self.gates[index]
        except asyncio.CancelledError:
            self.cancelled.append(index)
            raise
        return index

    def end(self, *indices: int) -> None:
        """Let some end well, in this order."""
        for index in indices:
            self.gates[index].set_result(None)

    def fail(self, index: int, error: Exception) -> None:
        """Let one fail."""
        self.gates[index].set_exception(error)


async def following(results: AsyncIterator[int]) -> int:
    """The next result."""
    async with asyncio.timeout(5):
        return await anext(results)


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_results_come_in_the_order_of_completion() -> None:
    """All of them, once."""
    work = Work(5)
    results = completing(5, 5, work.one)
    first = spawn("reads", following(results))
    await settled()
    work.end(3, 0, 4, 1, 2)

    assert [await first] + [result async for result in results] == [3, 0, 4, 1, 2]


async def test_what_nobody_takes_holds_up_the_rest() -> None:
    """Results that wait for the reader count as in hand, so that they can't pile up."""
    work = Work(10)
    work.end(*range(10))
    results = completing(10, 3, work.one)
    taken = [await following(results)]
    await settled()
    begun = list(work.begun)
    taken.append(await following(results))
    await settled()

    assert begun == [0, 1, 2]
    assert work.begun == [0, 1, 2, 3]
    assert taken + [result async for result in results] == list(range(10))


async def test_after_a_failure_what_is_in_hand_still_comes() -> None:
    """Then the failure; nothing new is begun."""
    work = Work(6)
    results = completing(6, 3, work.one)
    first = spawn("reads", following(results))
    await settled()
    work.fail(1, OSError("first"))
    await settled()
    work.fail(2, OSError("second"))
    work.end(0)

    assert await first == 0
    with pytest.raises(OSError, match="first"):
        await following(results)
    assert work.begun == [0, 1, 2]


async def test_leaving_cancels_what_is_in_hand() -> None:
    """Before it is left, so that nothing of it outlives the call."""
    work = Work(6)
    async with contextlib.aclosing(completing(6, 4, work.one)) as results:  # type: ignore[type-var]
        first = spawn("reads", following(results))
        await settled()
        work.end(2)
        await first

    assert sorted(work.cancelled) == [0, 1, 3]


@pytest.mark.parametrize(
    ("at_once", "size", "expected"),
    [
        (None, {}, DEFAULT_WIDTH),
        (16, {}, 32),
        (1 << 20, {}, MOST),
        (16, {"each": 8}, 4),
        (16, {"each": 64}, 1),
        (None, {"each": 64}, DEFAULT_WIDTH // 64),
        (256, {"large": True}, MOST_LARGE),
        (8, {"large": True}, 16),
    ],
)
def test_an_engine_is_kept_busy(at_once: int | None, size: dict[str, Any], expected: int) -> None:
    """With twice the sequences that it runs at once, where that is known, and with fewer where results are large."""
    supervisor = Supervisor("e", "m", cast("object", None), lambda: None)  # type: ignore[arg-type]
    supervisor.info = EngineInfo("0.25.1", 4096, measured=Measured(max_num_seqs=at_once))

    assert width(Entry(supervisor, Wish("m")), **size) == expected
