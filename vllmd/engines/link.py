"""The daemon's end of the link to one worker: commands down, deltas of all streams up.

A wake-up of a reader costs far more than a delta does: each becomes a message to a client. So when frames
come late, because this process is behind, everything that has arrived is taken in before any reader is
woken; tokens then travel in fewer, larger messages, and the daemon catches up. Without this every token
becomes a message of its own, and 256 streams fall from 51k to 29k tokens/s on an H200 with a 1B model.
"""

from __future__ import annotations

import asyncio
import pathlib
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from vllmd.engines.outbox import Outbox
from vllmd.engines.stall import Vitals
from vllmd.engines.streams import Stream
from vllmd.errors import EngineFailed, InvalidRequest, Unavailable, VllmdError
from vllmd.worker import protocol
from vllmd.worker.causes import text_of

LATE_SECONDS = 0.020
"""A frame that took longer than this to get here says that the daemon is behind."""

DRAIN_SECONDS = 0.050
"""The longest that readers are kept asleep while frames are taken in."""

_CHUNK_BYTES = 1 << 20
_HELLO_SECONDS = 10.0
_PINGS_SINCE = 2
"""The protocol."""


class Link:
    """A connection to a worker; `closed` is called once, with why, when it ends.

    Args:
        connection: a connected, non-blocking Unix stream socket.
        hello: what the worker said first.
        splitter: holds what came after the hello already.
        closed: called when the engine says that it is dead, or the connection breaks.
    """

    def __init__(
        self,
        connection: socket.socket,
        hello: protocol.Hello,
        splitter: protocol.FrameSplitter,
        closed: Callable[[str], None],
    ) -> None:
        self.hello = hello
        self.generated_tokens = 0
        self.unanswered_since: float | None = None
        """Since when a ping waits for its answer, on the monotonic clock; `None` while none does."""
        self._progress = time.monotonic()
        self._socket = connection
        self._splitter = splitter
        self._closed = closed
        self._open = True
        self._streams: dict[int, Stream] = {}
        self._touched: set[Stream] = set()
        self._last_id = 0
        self._outbox = Outbox(connection, self._break)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._readable)

    @property
    def running(self) -> int:
        """How many generations are in flight."""
        return len(self._streams)

    @property
    def vitals(self) -> Vitals:
        """What tells whether the engine still makes progress."""
        return Vitals(len(self._streams), self._progress, self.unanswered_since)

    def ping(self) -> None:
        """Ask for an answer from EngineCore, unless one is awaited already or the worker knows no pings."""
        if self.hello.protocol >= _PINGS_SINCE and self.unanswered_since is None and self._open:
            self.unanswered_since = time.monotonic()
            self._outbox.put(0, protocol.frame(protocol.Ping(1)))

    def start(self, prompt: protocol.Prompt, sampling_params: dict[str, Any]) -> Stream:
        """Start a generation.

        Raises:
            InvalidRequest: it does not fit into a frame; the worker would hang up on it.
            Unavailable: too much waits for the worker already, which does not read.
        """
        self._last_id += 1
        stream = Stream(self._last_id)
        if self._open:
            frame = protocol.frame(protocol.Generate(stream.id, prompt, sampling_params))
            if len(frame) > protocol.MAX_FRAME_BYTES:
                message = f"The prompt takes {len(frame)} bytes; at most {protocol.MAX_FRAME_BYTES} are possible."
                raise InvalidRequest("PROMPT_TOO_LARGE", message, bytes=len(frame))
            if not self._outbox.has_room(len(frame)):
                raise Unavailable("ENGINE_STALLED", "The engine's worker does not take requests at the moment.", 5.0)
            if not self._streams:
                self._progress = time.monotonic()  # until now there was nothing to make
            self._outbox.put(stream.id, frame)
            self._streams[stream.id] = stream
        else:
            stream.fail(Unavailable("ENGINE_DIED", "The engine has just died."))
        return stream

    def end(self, stream: Stream) -> None:
        """Forget a generation; one that is still running is aborted in the engine."""
        running = self._streams.pop(stream.id, None) is not None and not stream.ended
        if running and self._open and not self._outbox.withdraw(stream.id):
            self._outbox.put(stream.id, protocol.frame(protocol.Abort([stream.id])))

    def close(self, error: VllmdError) -> None:
        """Hang up; generations still running end with *error*."""
        self._shut()
        for stream in list(self._streams.values()):
            stream.fail(error)
        self._streams.clear()

    def _shut(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket)
            self._outbox.close()
            self._socket.close()

    def _readable(self) -> None:
        """Take in what has arrived; while it is late, everything, before any reader runs."""
        until = time.monotonic() + DRAIN_SECONDS
        try:
            while self._receive() and time.monotonic() < until:
                pass
        except (OSError, EOFError, protocol.ProtocolError, msgspec.DecodeError) as error:
            self._break(text_of(error))
        self._wake()

    def _receive(self) -> bool:
        """Take in one chunk; tell whether to go on because it was late."""
        try:
            chunk = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            chunk = b""  # it ended before it had read all that we sent
        late = False
        for body in self._splitter.feed(chunk):
            late = self._take(protocol.event_decoder.decode(body))
            if not self._open:
                return False
        if not chunk:
            raise EOFError("the worker closed its connection")
        return late

    def _take(self, event: protocol.Event) -> bool:
        if isinstance(event, protocol.Step):
            for delta in event.deltas:
                stream = self._streams.get(delta.stream)
                if stream is not None:
                    stream.put(delta)
                    self._touched.add(stream)
                self.generated_tokens += len(delta.token_ids)
            self._progress = time.monotonic()
            return (time.monotonic_ns() - event.sent_ns) * 1e-9 > LATE_SECONDS
        if isinstance(event, protocol.Dead) or (isinstance(event, protocol.Refused) and event.kind == "dead"):
            self._break(event.message)
        elif isinstance(event, protocol.Pong):
            self.unanswered_since = None
        elif isinstance(event, protocol.Refused):
            stream = self._streams.get(event.stream)
            if stream is not None:
                stream.fail(_refusal(event))
        return False

    def _wake(self) -> None:
        touched, self._touched = self._touched, set()
        for stream in touched:
            stream.wake()

    def _break(self, why: str) -> None:
        """Report the end of the connection; the streams get their error from whoever is told."""
        if self._open:
            self._shut()
            self._closed(why)


def _refusal(event: protocol.Refused) -> VllmdError:
    if event.kind == "invalid":
        return InvalidRequest("INVALID_PROMPT_OR_PARAMS", event.message)
    return EngineFailed("GENERATION_FAILED", f"The engine failed at this request: {event.message}")


async def connect(path: pathlib.Path, closed: Callable[[str], None]) -> Link:
    """Connect to a worker and hear its hello.

    Raises:
        OSError: nobody listens there.
        TimeoutError: the worker says nothing.
        ProtocolError: it speaks another protocol.
    """
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(_HELLO_SECONDS):
            await loop.sock_connect(connection, str(path))
            splitter = protocol.FrameSplitter()
            hello = await _hear_hello(connection, splitter)
        if hello.protocol not in protocol.SPOKEN:
            raise protocol.ProtocolError(f"the worker speaks protocol {hello.protocol}, not {protocol.SPOKEN}")
        return Link(connection, hello, splitter, closed)
    except TimeoutError:
        connection.close()
        raise TimeoutError(f"the worker did not say hello within {_HELLO_SECONDS:g} s") from None
    except BaseException:
        connection.close()
        raise


async def _hear_hello(connection: socket.socket, splitter: protocol.FrameSplitter) -> protocol.Hello:
    loop = asyncio.get_running_loop()
    while True:
        chunk = await loop.sock_recv(connection, _CHUNK_BYTES)
        if not chunk:
            raise protocol.ProtocolError("the worker hung up before its hello")
        for body in splitter.feed(chunk):
            try:
                event = protocol.event_decoder.decode(body)
            except msgspec.DecodeError as error:
                raise protocol.ProtocolError(f"the worker's hello makes no sense: {error}") from error
            if not isinstance(event, protocol.Hello):
                raise protocol.ProtocolError(f"the worker began with {type(event).__name__}")
            return event
