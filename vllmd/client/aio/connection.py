"""A channel to one daemon for asyncio, and calls on it whose failures are `VllmdError`s."""

from __future__ import annotations

import asyncio
import collections
import functools
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import grpc
import grpc.aio

from vllmd.client import credentials
from vllmd.client.errors import VllmdError
from vllmd.client.retries import HEALTH_CHECK, Check, Patience, Result, Sleep, Steps, Try, check_time
from vllmd.client.translation import closed, from_call

if TYPE_CHECKING:
    from google.protobuf.message import Message

Request = TypeVar("Request", bound="Message")
Response = TypeVar("Response", bound="Message")
Item = TypeVar("Item")
Other = TypeVar("Other")


class AsyncConnection:
    """One channel, and another for what is watched; `Patience` says how long a call on it waits for a daemon."""

    def __init__(self, target: str, connect_timeout: float = 0.0) -> None:
        self.target = target
        self.patience = Patience(target, connect_timeout)
        own = credentials.from_environment()
        self.metadata = own.metadata(target)
        self.channel = credentials.async_channel(target, own)
        self.watching = credentials.async_channel(target, own, narrow=True)
        self._closed = False
        self._loop = asyncio.get_running_loop()

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
        *,
        once: bool = False,
    ) -> Response:
        """Call and wait for the answer; see `Patience.unary`."""
        steps: Steps[Response] = self.patience.unary(timeout, once)
        return await self.follow(steps, lambda seconds: method(request, timeout=seconds, metadata=self.metadata))

    def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
    ) -> AsyncStream[Response]:
        """Call and return the stream of answers, which lasts *timeout* seconds at most."""
        self._check_loop()
        if self._closed:
            raise closed()
        call = _StreamCall(self, lambda seconds: method(request, timeout=seconds, metadata=self.metadata), timeout)
        return AsyncStream(call.pull, call.cancel)

    async def wait_until_ready(self, timeout: float) -> None:
        """Wait for a daemon to answer; raises `DaemonUnreachable` if none does in time."""
        await self.follow(self.patience.until_ready(timeout))

    async def follow(
        self, steps: Steps[Result], call: Callable[[float | None], Awaitable[Any]] | None = None
    ) -> Result:
        """Do what the steps say; *call* is what they try."""
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: Result = end.value
                return result
            match step:
                case Try(timeout=seconds):
                    assert call is not None
                    answer = await self.attempt(functools.partial(call, seconds))
                case Check(timeout=seconds):
                    answer = await self.attempt(functools.partial(self._check, seconds))
                case Sleep(seconds=seconds):
                    await asyncio.sleep(seconds)
                    answer = None

    async def attempt(self, call: Callable[[], Awaitable[Item]]) -> Item | VllmdError:
        """Make a call once; return what it fails with."""
        self._check_loop()
        if self._closed:
            return closed()
        try:
            return await call()
        except grpc.RpcError as error:
            return from_call(error, self.target)
        except asyncio.CancelledError:
            # gRPC says it of calls that somebody else cancelled as well, such as by closing the channel.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return closed()

    async def _check(self, timeout: float) -> None:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(HEALTH_CHECK)
        await call(b"", timeout=timeout, metadata=self.metadata, wait_for_ready=True)

    def _check_loop(self) -> None:
        """Raise where another loop runs than the one that gRPC waits in, or none: it would hang, or name neither."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise RuntimeError("this client belongs to another event loop: make one in each loop, and use it there")

    async def close(self) -> None:
        """End the channels and every call on them."""
        self._closed = True
        await self.channel.close()
        await self.watching.close()


class AsyncStream(AsyncIterator[Item], Generic[Item]):
    """What one call brings; it is made at once, and cancelled by `close` or the end of an `async with` block.

    So is one that nobody refers to any more, as after a `break`. Whoever waits for the next item gets a `VllmdError`
    when the call fails; cancelling that task cancels the call.
    """

    def __init__(self, pull: Callable[[], Awaitable[Item]], cancel: Callable[[], None]) -> None:
        self._pull = pull
        self._cancel = cancel
        weakref.finalize(self, _abandon, asyncio.get_running_loop(), cancel).atexit = False

    async def __anext__(self) -> Item:
        return await self._pull()

    def map(self, function: Callable[[Item], Other]) -> AsyncStream[Other]:
        """Make the stream of what *function* makes of each item; the end of one is the end of both."""

        async def pull() -> Other:
            return function(await self._pull())

        return AsyncStream(pull, self._cancel)

    def flat(self, function: Callable[[Item], Iterable[Other]]) -> AsyncStream[Other]:
        """Make the stream of all that *function* finds in each item; the end of one is the end of both."""
        waiting: collections.deque[Other] = collections.deque()

        async def pull() -> Other:
            while not waiting:
                waiting.extend(function(await self._pull()))
            return waiting.popleft()

        def cancel() -> None:
            self._cancel()
            waiting.clear()

        return AsyncStream(pull, cancel)

    def cancel(self) -> None:
        """Do what `close` does, where nothing can be awaited."""
        self._cancel()

    async def close(self) -> None:
        """Cancel the call; a stream that has ended stays as it is."""
        self._cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _abandon(loop: asyncio.AbstractEventLoop, cancel: Callable[[], None]) -> None:
    """Cancel a call from wherever objects are collected."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(cancel)


class _StreamCall(Generic[Response]):
    """A call that is made again if it finds no daemon, and not once anything has come."""

    def __init__(
        self,
        connection: AsyncConnection,
        start: Callable[[float | None], grpc.aio.UnaryStreamCall[Any, Response]],
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._start = start
        check_time(timeout)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._untouched = True
        self._cancelled = False
        self._call = self._begin()

    async def pull(self) -> Response:
        if self._cancelled:
            raise StopAsyncIteration
        answer: Any = await self._connection.attempt(self._call.read)
        if isinstance(answer, VllmdError):
            if self._cancelled:
                raise StopAsyncIteration
            if not self._untouched:
                raise answer
            self._untouched = False
            await self._connection.follow(self._connection.patience.before_another(answer, deadline=self._deadline))
            self._call = self._begin()
            return await self.pull()
        self._untouched = False
        self._connection.patience.answered()
        if answer is grpc.aio.EOF:
            raise StopAsyncIteration
        response: Response = answer
        return response

    def cancel(self) -> None:
        self._cancelled = True
        self._call.cancel()

    def _begin(self) -> grpc.aio.UnaryStreamCall[Any, Response]:
        seconds = None if self._deadline is None else self._deadline - time.monotonic()
        check_time(seconds)
        return self._start(seconds)
