"""Many pieces of work, of which so many are in hand at once: done, or not yet taken by whoever waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from vllmd.scheduler.entry import Entry
from vllmd.tasks import spawn

T = TypeVar("T")

DEFAULT_WIDTH = 256
MOST = 2048
"""Results that one call may have the daemon hold."""
MOST_LARGE = 32
"""Results with log probabilities, each of which may take as much as a message holds."""


def width(entry: Entry, each: int = 1, *, large: bool = False) -> int:
    """Say how many requests of one call keep an engine busy: as many as it runs at once, and as many that wait.

    Args:
        entry: the engine.
        each: sequences of a request, as others wait for all of them.
        large: whether a result may take some MiB.
    """
    measured = entry.supervisor.info.measured if entry.supervisor.info is not None else None
    at_once = measured.max_num_seqs if measured is not None else None
    most = MOST_LARGE if large else MOST
    return max(1, min((2 * at_once if at_once else DEFAULT_WIDTH) // each, most))


async def completing(count: int, width: int, work: Callable[[int], Awaitable[T]]) -> AsyncIterator[T]:
    """Do *work* for each number below *count*, and yield the results in the order of completion.

    What is yielded and not taken holds up the rest. After a failure nothing is begun any more, and what is in hand is
    waited for and yielded, as far as it comes out well. Closing the iterator cancels what is in hand.

    Args:
        count: how many pieces there are.
        width: how many of them may be in hand.
        work: does one.

    Raises:
        Exception: the first that *work* raised.
    """
    results: asyncio.Queue[T | _Failed] = asyncio.Queue()
    running: dict[int, asyncio.Task[None]] = {}
    failed: Exception | None = None

    async def one(index: int) -> None:
        try:
            results.put_nowait(await work(index))
        except Exception as error:  # noqa: BLE001 - raised where the results are taken
            results.put_nowait(_Failed(error))
        finally:
            del running[index]

    begun = taken = 0
    try:
        while taken < begun or (begun < count and failed is None):
            while failed is None and begun < count and begun - taken < width:
                running[begun] = spawn(f"piece {begun}", one(begun))
                begun += 1
            result = await results.get()
            if isinstance(result, _Failed):
                failed = failed or result.error
            else:
                yield result
            taken += 1
        if failed is not None:
            raise failed
    finally:
        for task in tuple(running.values()):
            task.cancel()
        await asyncio.gather(*tuple(running.values()), return_exceptions=True)


class _Failed:
    def __init__(self, error: Exception) -> None:
        self.error = error
