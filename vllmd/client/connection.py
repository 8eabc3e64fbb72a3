"""A channel to one daemon, and calls on it whose failures are `VllmdError`s."""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import grpc

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
ItemOut = TypeVar("ItemOut", covariant=True)


class Connection:
    """One channel, and another for what is watched; `Patience` says how long a call on it waits for a daemon."""

    def __init__(self, target: str, connect_timeout: float = 0.0) -> None:
        self.target = target
        self.patience = Patience(target, connect_timeout)
        own = credentials.from_environment()
        self.metadata = own.metadata(target)
        self.channel = credentials.channel(target, own)
        self.watching = credentials.channel(target, own, narrow=True)
        self._closed = False

    def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
        *,
        once: bool = False,
    ) -> Response:
        """Call and wait for the answer; see `Patience.unary`."""
        steps: Steps[Response] = self.patience.unary(timeout, once)
        return self.follow(steps, lambda seconds: method(request, timeout=seconds, metadata=self.metadata))

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
    ) -> Stream[Response]:
        """Call and return the stream of answers, which lasts *timeout* seconds at most."""
        call = _StreamCall(self, lambda seconds: method(request, timeout=seconds, metadata=self.metadata), timeout)
        return Stream(call.pull, call.cancel)

    def wait_until_ready(self, timeout: float) -> None:
        """Wait for a daemon to answer; raises `DaemonUnreachable` if none does in time."""
        self.follow(self.patience.until_ready(timeout))

    def follow(self, steps: Steps[Result], call: Callable[[float | None], Any] | None = None) -> Result:
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
                    answer = self.attempt(functools.partial(call, seconds))
                case Check(timeout=seconds):
                    answer = self.attempt(functools.partial(self._check, seconds))
                case Sleep(seconds=seconds):
                    time.sleep(seconds)
                    answer = None

    def attempt(self, call: Callable[[], Item]) -> Item | VllmdError:
        """Make a call once; return what it fails with."""
        try:
            return call()
        except grpc.RpcError as error:
            return from_call(error, self.target)
        except ValueError:
            # gRPC's word for a channel that is closed; also for a request that can't be sent, which is a bug.
            if not self._closed:
                raise
            return closed()

    def _check(self, timeout: float) -> None:
        # `grpc.channel_ready_future` leaves a thread that complains if the channel is closed soon.
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(HEALTH_CHECK)
        call(b"", timeout=timeout, metadata=self.metadata, wait_for_ready=True)

    def close(self) -> None:
        """End the channels and every call on them."""
        self._closed = True
        self.channel.close()
        self.watching.close()


class Stream(Iterator[Item], Generic[Item]):
    """What one call brings; it is made at once, and cancelled by `close` or the end of a `with` block.

    `next` raises `VllmdError` when the call fails.
    """

    def __init__(self, pull: Callable[[], Item], cancel: Callable[[], None]) -> None:
        self._pull = pull
        self._cancel = cancel

    def __next__(self) -> Item:
        return self._pull()

    def map(self, function: Callable[[Item], Other]) -> Stream[Other]:
        """Make the stream of what *function* makes of each item; the end of one is the end of both."""
        return Stream(lambda: function(self._pull()), self._cancel)

    def flat(self, function: Callable[[Item], Iterable[Other]]) -> Stream[Other]:
        """Make the stream of all that *function* finds in each item; the end of one is the end of both."""
        waiting: collections.deque[Other] = collections.deque()

        def pull() -> Other:
            while True:
                try:
                    return waiting.popleft()
                except IndexError:  # asked first, there could be one that another thread's `close` takes away
                    waiting.extend(function(self._pull()))

        def cancel() -> None:
            self._cancel()
            waiting.clear()

        return Stream(pull, cancel)

    def close(self) -> None:
        """Cancel the call; a stream that has ended stays as it is. May be called from another thread."""
        self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Call(Protocol[ItemOut]):
    """What is needed of gRPC's call."""

    def __next__(self) -> ItemOut: ...

    def cancel(self) -> bool: ...


class _StreamCall(Generic[Response]):
    """A call that is made again if it finds no daemon, and not once anything has come."""

    def __init__(
        self,
        connection: Connection,
        start: Callable[[float | None], _Call[Response]],
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._start = start
        check_time(timeout)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._untouched = True
        self._cancelled = False
        self._call = self._begin()

    def pull(self) -> Response:
        if self._cancelled:
            raise StopIteration
        answer = self._connection.attempt(lambda: next(self._call))
        if isinstance(answer, VllmdError):
            if self._cancelled:
                raise StopIteration
            if not self._untouched:
                raise answer
            self._untouched = False
            self._connection.follow(self._connection.patience.before_another(answer, deadline=self._deadline))
            self._call = self._begin()
            if self._cancelled:  # meanwhile, by another thread
                self._call.cancel()
            return self.pull()
        self._untouched = False
        self._connection.patience.answered()
        return answer

    def cancel(self) -> None:
        self._cancelled = True
        self._call.cancel()

    def _begin(self) -> _Call[Response]:
        seconds = None if self._deadline is None else self._deadline - time.monotonic()
        check_time(seconds)
        call = self._connection.attempt(lambda: self._start(seconds))
        if isinstance(call, VllmdError):
            raise call
        return call
