"""Keeps a lease in a task, while its model is in use."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable

from vllmd.client.aio.connection import AsyncStream
from vllmd.client.errors import VllmdError
from vllmd.client.keeping import Answer, Pause, Renew, Step, Watch, keeping
from vllmd.v1 import engine_pb2
from vllmd.v1 import engine_service_pb2 as pb


class AsyncKeeper:
    """A task that keeps one lease until it is stopped; see `Keeper`."""

    def __init__(
        self,
        lease: engine_pb2.Lease,
        stream: AsyncStream[pb.LoadModelResponse] | None,
        renew: Callable[[str], Awaitable[engine_pb2.Lease]],
    ) -> None:
        self.lease = lease
        self.failure: VllmdError | None = None
        """Why the lease is not kept any more; `None` while it is, or once it was ended on purpose."""
        self._stream = stream
        self._renew = renew
        self._stopped = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="vllmd-lease")

    def check(self) -> None:
        """Raise what keeps the lease from being kept, if anything does."""
        if self.failure is not None and not self._stopped:
            raise copy.copy(self.failure)

    def changed(self, lease: engine_pb2.Lease) -> None:
        """Go by another length of the lease from now on."""
        self.lease = lease
        self._wake.set()

    async def join(self) -> None:
        """Wait until the lease is not kept any more; raises as `check` does."""
        await asyncio.wait([self._task])
        self.check()

    def stop(self) -> None:
        """Leave the lease alone; one that is held ends."""
        self._stopped = True
        self._task.cancel()
        if self._stream is not None:
            self._stream.cancel()

    def abandon(self) -> None:
        """Do the same, from wherever a model that nobody refers to any more is collected."""
        try:
            self._loop.call_soon_threadsafe(self.stop)
        except RuntimeError:
            pass  # the loop is closed, and its connections with it

    async def _run(self) -> None:
        steps = keeping(self.lease, self._stream is not None)
        answer: Answer = None
        while True:
            try:
                answer = await self._take(steps.send(answer))
            except StopIteration:
                return
            except VllmdError as failure:
                self.failure = failure.with_traceback(None)
                return

    async def _take(self, step: Step) -> Answer:
        try:
            match step:
                case Watch():
                    assert self._stream is not None
                    async for _ in self._stream:
                        pass
                case Pause(seconds=seconds):
                    await self._pause(seconds)
                case Renew():
                    self.lease = await self._renew(self.lease.name)
                    return self.lease
        except VllmdError as failure:
            return failure
        return None

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass  # as it mostly does
        self._wake.clear()
