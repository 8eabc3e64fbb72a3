"""A channel to one daemon, and calls on it whose failures are `VllmdError`s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import grpc

from vllmd.client.errors import DaemonUnreachable, from_call

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


class Connection:
    """One channel.

    A call on it that finds no daemon waits for one, for at most *connect_timeout* seconds, or for `RESTART_SECONDS`
    once a daemon has answered: it is being restarted then, which nobody should notice.
    """

    def __init__(self, target: str, connect_timeout: float = 0.0) -> None:
        self.target = target
        self._patience = connect_timeout
        self.channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)

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
            timeout: seconds; `None` for as long as it takes.
            once: whether the call must not be made again if the daemon may have heard it.
        """
        for _ in range(_TRIES - 1):
            try:
                return self._answered(method(request, timeout=timeout))
            except grpc.RpcError as error:
                self.wait_or_raise(error, once)
        try:
            return self._answered(method(request, timeout=timeout))
        except grpc.RpcError as error:
            raise from_call(error, self.target) from None

    def _answered(self, response: Response) -> Response:
        self._patience = max(self._patience, RESTART_SECONDS)
        return response

    def stream(self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request) -> Stream[Response]:
        """Call and return the stream of answers."""
        return Stream(self, lambda: method(request))

    def wait_until_ready(self, timeout: float) -> None:
        """Wait for a daemon to answer; raises `DaemonUnreachable` if none does in time."""
        ready = grpc.channel_ready_future(self.channel)
        try:
            ready.result(timeout=timeout)
        except grpc.FutureTimeoutError:
            message = f"no daemon answers at {self.target}: waited {timeout:g} s"
            raise DaemonUnreachable(self.target, message, request_sent=False) from None
        finally:
            ready.cancel()

    def wait_or_raise(self, error: grpc.RpcError, once: bool = True) -> None:
        """Return when the call may be made again; raise what *error* means if it may not."""
        failure = from_call(error, self.target)
        gone = isinstance(failure, DaemonUnreachable) and not (once and failure.request_sent)
        if gone and self._patience > 0:
            self.wait_until_ready(self._patience)
            return
        raise failure from None

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
        self._connection.wait_or_raise(error)
        self._untouched = False
        self._call = self._start()
        return next(self)
