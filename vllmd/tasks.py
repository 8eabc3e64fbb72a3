"""Background tasks that have a name, are kept alive, and whose failures are seen."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from vllmd.errors import Unavailable

T = TypeVar("T")  # the PEP 695 form needs Python 3.12

_log = logging.getLogger(__name__)
_running: set[asyncio.Task[Any]] = set()


def spawn(name: str, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run *coroutine* as a task; an exception that nobody awaits is logged.

    asyncio keeps only weak references to tasks, so a bare `create_task` may be collected half-way.
    """
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


async def repeat(what: str, seconds: float, *functions: Callable[[], None]) -> None:
    """Call functions every so many seconds until cancelled; what failed once is logged, and called again."""
    while True:
        await asyncio.sleep(seconds)
        for function in functions:
            try:
                function()
            except Exception as error:  # noqa: BLE001 - it must not end all of this for good
                _log.error("%s failed", what, exc_info=error)


MOST_BLOCKED = 8
"""How many calls may block at once. Those that hang keep their place, so that hanging ones can't pile up."""

_places = threading.BoundedSemaphore(MOST_BLOCKED)


async def in_thread(what: str, function: Callable[[], T], timeout: float) -> T:
    """Run a function that may block for ever, such as one that reads a path on a file system of the network.

    Each call has a thread of its own that Python does not wait for at its end, as it does for those of executors.

    Args:
        what: what it does, for the error: `reading /models/x`.
        function: runs on the thread; what it raises is raised here.
        timeout: seconds that it may take.

    Raises:
        Unavailable: it takes too long, or too many calls hang already.
    """
    if not _places.acquire(blocking=False):
        raise Unavailable("FILES_UNAVAILABLE", f"Too many files do not answer, so {what} was not tried.", 10.0)
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def work() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            future.set_exception(error)
        finally:
            _places.release()

    threading.Thread(target=work, name=what, daemon=True).start()
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        message = f"The files do not answer: {what} takes more than {timeout:g} s."
        raise Unavailable("FILES_UNAVAILABLE", message, 10.0, seconds=timeout) from None


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and task.exception() is not None:
        _log.error("task %s failed", task.get_name(), exc_info=task.exception())


class Signal:
    """Wakes everybody who waits for a change; who comes late waits for the next one."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Wake all that wait now."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the next change, at most *timeout* seconds; tell whether one came."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True
