"""A channel to one daemon, and calls on it whose failures are `VllmdError`s."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import grpc

from vllmd.client import credentials, retries
from vllmd.client.errors import DaemonUnreachable, VllmdError, from_call

if TYPE_CHECKING:
    from google.protobuf.message import Message

Request = TypeVar("Request", bound="Message")
Response = TypeVar("Response", bound="Message")
ResponseOut = TypeVar("ResponseOut", bound="Message", covariant=True)

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A daemon that restarts is back within a second; gRPC's own back-off goes up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # The longest prompt that a model takes is a few MiB; the default of 4 MiB is too near to it.
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # Details of an error travel in the trailers, log lines included; the default refuses more than 8 KiB.
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.absolute_max_metadata_size", 128 << 10),
    # The daemon listens on this host: a proxy for the web has no part in it.
    ("grpc.enable_http_proxy", 0),
)


RESTART_SECONDS = 10.0
"""What a daemon that has answered before gets to come back: its restart or upgrade takes about one, or some on a host
that is busy."""

_TRIES = 3
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"


class Connection:
    """One channel.

    A call on it that finds no daemon waits for one, for at most *connect_timeout* seconds, or for `RESTART_SECONDS`
    once a daemon has answered: it is being restarted then, which nobody should notice. A unary call that the daemon
    refuses for the moment is made again at the time that it names, if that is as near.
    """

    def __init__(self, target: str, connect_timeout: float = 0.0) -> None:
        self.target = target
        self._patience = connect_timeout
        own = credentials.from_environment()
        self.metadata = own.metadata(target)
        self.channel = credentials.channel(target, CHANNEL_OPTIONS, own)

    def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None = None,
        *,
        once: bool = False,
    ) -> Response:
        """Call and wait for the answer.

        Args:
            method: what to call.
            request: with what.
            timeout: seconds, for all tries together; `None` for as long as it takes.
            once: whether the call must not be made again if the daemon may have heard it.

        Raises:
            VllmdError: as the last try failed; `earlier` tells of one before it.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        earlier: VllmdError | None = None
        tries = 0
        while True:
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                response = method(request, timeout=left, metadata=self.metadata)
            except grpc.RpcError as error:
                failure = from_call(error, self.target)
            else:
                self._was_there()
                return response
            failure.earlier = earlier
            tries += 1
            if tries == _TRIES:
                raise failure
            self.wait_or_raise(failure, once, deadline)
            earlier = failure if failure.request_sent else earlier

    def _was_there(self) -> None:
        self._patience = max(self._patience, RESTART_SECONDS)

    def stream(self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request) -> Stream[Response]:
        """Call and return the stream of answers."""
        return Stream(self, lambda: method(request, metadata=self.metadata))

    def wait_until_ready(self, timeout: float) -> None:
        """Wait for a daemon to answer; raises `DaemonUnreachable` if none does in time."""
        # Any answer will do. `grpc.channel_ready_future` leaves a thread that complains if the channel is closed soon.
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(_HEALTH_CHECK)
        deadline = time.monotonic() + timeout
        while True:
            try:
                check(b"", timeout=max(0.0, deadline - time.monotonic()), metadata=self.metadata, wait_for_ready=True)
            except grpc.RpcError as error:
                failure = from_call(error, self.target)
            else:
                return
            if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                message = f"no daemon answers at {self.target}: waited {round(timeout, 2):g} s"
                raise DaemonUnreachable(self.target, message, request_sent=False) from None
            if not isinstance(failure, DaemonUnreachable):
                return

    def wait_or_raise(self, failure: VllmdError, once: bool = True, deadline: float | None = None) -> None:
        """Return when the call may be made again; raise *failure* if it may not, or not before the deadline."""
        if not isinstance(failure, DaemonUnreachable) or failure.was_there:
            self._was_there()
        patience = self._patience if deadline is None else min(self._patience, deadline - time.monotonic())
        pause = retries.pause(failure, once)
        if pause is None or pause >= patience:
            raise failure from None
        time.sleep(pause)
        try:
            self.wait_until_ready(patience - pause)
        except DaemonUnreachable:
            if failure.request_sent:
                raise failure from None  # that none comes back is the lesser news: this call may have been heard
            raise

    def close(self) -> None:
        """End the channel and every call on it."""
        self.channel.close()


class _Call(Protocol[ResponseOut]):
    """What `Stream` needs of gRPC's call."""

    def __next__(self) -> ResponseOut: ...

    def cancel(self) -> bool: ...


class Stream(Iterator[Response], Generic[Response]):
    """Responses of one call, which is made at once and cancelled by `close` or the end of a `with` block."""

    def __init__(self, connection: Connection, start: Callable[[], _Call[Response]]) -> None:
        self._connection = connection
        self._start = start
        self._call = start()
        self._untouched = True
        self._closed = False

    def __next__(self) -> Response:
        if self._closed:
            raise StopIteration
        try:
            response = next(self._call)
        except grpc.RpcError as error:
            response = self._after(error)
        self._untouched = False
        return response

    def close(self) -> None:
        """Cancel the call; a stream that has ended stays as it is. May be called from another thread."""
        self._closed = True
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _after(self, error: grpc.RpcError) -> Response:
        if self._closed:
            raise StopIteration from None
        if not self._untouched:
            raise from_call(error, self._connection.target) from None
        self._connection.wait_or_raise(from_call(error, self._connection.target))
        self._untouched = False
        self._call = self._start()
        return next(self)
