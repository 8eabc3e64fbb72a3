"""Snapshots of the host's GPUs for an event loop: NVML runs on one thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from vllmd.gpu.inventory import Inventory

ANSWER_SECONDS = 5.0
"""NVML answers in milliseconds, or it hangs in the driver."""


class Source(Protocol):
    """Something that knows the GPUs; its calls may block."""

    def snapshot(self) -> Inventory:
        """Read all GPUs as they are now."""
        ...

    def close(self) -> None:
        """Let go of the driver."""
        ...


class GpuMonitor:
    """Reads the GPUs without blocking the loop; calls never overlap.

    A driver that hangs must hold up neither an answer nor the daemon's end, so the thread is one that Python does
    not wait for.
    """

    def __init__(self, source: Source, timeout: float = ANSWER_SECONDS) -> None:
        self._source = source
        self._timeout = timeout
        self._closed = False
        self.last = Inventory(error="nobody has looked yet", available=False)
        """What was seen last, whoever asked."""
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="nvml", daemon=True).start()

    async def snapshot(self) -> Inventory:
        """Read all GPUs as they are now; without an answer in time, an inventory that says so.

        Raises:
            RuntimeError: the monitor is closed.
        """
        if self._closed:
            raise RuntimeError("this monitor is closed")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Inventory] = loop.create_future()
        self._jobs.put(functools.partial(self._read, loop, answer))
        try:
            async with asyncio.timeout(self._timeout):
                self.last = await answer
                return self.last
        except TimeoutError:
            return Inventory(error=f"NVML does not answer within {self._timeout:g} s", available=False)

    def close(self) -> None:
        """Let go of the driver, without waiting for it."""
        self._closed = True
        self._jobs.put(self._end)

    def _work(self) -> None:
        with contextlib.suppress(_Closed):
            while True:
                self._jobs.get()()

    def _read(self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Inventory]) -> None:
        if answer.cancelled():
            return
        try:
            found = self._source.snapshot()
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            tell = functools.partial(_settle, answer, None, error)
        else:
            tell = functools.partial(_settle, answer, found, None)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell)

    def _end(self) -> None:
        self._source.close()
        raise _Closed


class _Closed(Exception):
    """Ends the thread."""


def _settle(answer: asyncio.Future[Inventory], found: Inventory | None, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    elif found is not None:
        answer.set_result(found)
