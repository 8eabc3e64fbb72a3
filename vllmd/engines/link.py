"""The daemon's end of the link to one worker: commands down, deltas of all streams up.

A wake-up of a reader costs far more than a delta does: each becomes a message to a client. So when frames
come late, because this process is behind, everything that has arrived is taken in before any reader is
woken; tokens then travel in fewer, larger messages, and the daemon catches up. Without this every token
becomes a message of its own, and 256 streams fall from 51k to 29k tokens/s on an H200 with a 1B model.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, Unpack

import msgspec

from vllmd.engines import outdated, questions
from vllmd.engines.outbox import Outbox
from vllmd.engines.outdated import GenerateOptions
from vllmd.engines.questions import Asked
from vllmd.engines.stall import Vitals
from vllmd.engines.streams import Stream
from vllmd.errors import InvalidRequest, Unavailable, VllmdError
from vllmd.worker import protocol
from vllmd.worker.causes import text_of

LATE_SECONDS = 0.020
"""A frame that took longer than this to get here says that the daemon is behind."""

DRAIN_SECONDS = 0.050
"""The longest that readers are kept asleep while frames are taken in."""

CHUNK_BYTES = 1 << 20
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
        self._streams: dict[int, Stream | Asked] = {}
        self._touched: set[Stream] = set()
        self._last_id = 0
        self._outbox = Outbox(connection, self._break)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._readable)

    @property
    def open(self) -> bool:
        """False once nothing more will come, and every request has failed or is about to."""
        return self._open

    @property
    def running(self) -> int:
        """How many requests are in flight."""
        return len(self._streams)

    @property
    def vitals(self) -> Vitals:
        """What tells whether the engine still makes progress."""
        return Vitals(sum(one.in_core for one in self._streams.values()), self._progress, self.unanswered_since)

    def ping(self) -> None:
        """Ask for an answer from EngineCore, unless one is awaited already or the worker knows no pings."""
        if self.hello.protocol >= _PINGS_SINCE and self.unanswered_since is None and self._open:
            self.unanswered_since = time.monotonic()
            self._outbox.put(0, protocol.frame(protocol.Ping(1)))

    def start(
        self, prompt: protocol.Prompt, sampling_params: dict[str, Any], **options: Unpack[GenerateOptions]
    ) -> Stream:
        """Start a generation; of an old worker it never comes whole.

        Raises:
            InvalidRequest: it does not fit into a frame; the worker would hang up on it.
            NotPossible: the engine does not generate, or is of an earlier vllmd and would ignore a part of it.
            Unavailable: too much waits for the worker already, which does not read.
        """
        if self.hello.protocol < outdated.CURRENT:
            outdated.refuse(prompt, sampling_params, options)
        if "truncate_prompt_tokens" not in options:
            questions.check_length(prompt, self.hello.engine.max_model_len)
        self._last_id += 1
        compiles, whole = "structured_outputs" in sampling_params, options.get("whole", False)
        stream = Stream(self._last_id, compiles=compiles, bounded=not whole)
        self._send(protocol.Generate(stream.id, prompt, sampling_params, **options), stream)
        return stream

    def ask(self, question: protocol.Question) -> Asked:
        """Ask a question; its number is set here.

        Raises:
            InvalidRequest, NotPossible, Unavailable: as `start`.
        """
        if self.hello.protocol < outdated.CURRENT:
            raise outdated.error(type(question).__name__)
        self._last_id += 1
        numbered = msgspec.structs.replace(question, stream=self._last_id)
        asked = Asked(numbered)
        self._send(numbered, asked)
        return asked

    def _send(self, request: protocol.Generate | protocol.Question, stream: Stream | Asked) -> None:
        questions.check_runner(self.hello.engine.runner_type, request)
        if not self._open:
            stream.fail(Unavailable("ENGINE_DIED", "The engine has just died."))
            return
        frame = protocol.frame(request)
        if len(frame) > protocol.MAX_FRAME_BYTES:
            message = f"The prompt takes {len(frame)} bytes; at most {protocol.MAX_FRAME_BYTES} are possible."
            raise InvalidRequest("PROMPT_TOO_LARGE", message, bytes=len(frame), limit=protocol.MAX_FRAME_BYTES)
        if not self._outbox.has_room(len(frame)):
            raise Unavailable("ENGINE_STALLED", "The engine's worker does not take requests at the moment.", 5.0)
        if not any(one.in_core for one in self._streams.values()):
            self._progress = time.monotonic()  # until now there was nothing to make
        self._outbox.put(stream.id, frame)
        self._streams[stream.id] = stream

    def end(self, stream: Stream | Asked) -> None:
        """Forget a request; one that is still running is aborted in the engine."""
        running = self._streams.pop(stream.id, None) is not None and not stream.ended
        if running and self._open and not self._outbox.withdraw(stream.id):
            self._outbox.put(stream.id, protocol.frame(protocol.Abort([stream.id])))

    def close(self, error: VllmdError) -> None:
        """Hang up; requests still running end with *error*."""
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
            chunk = self._socket.recv(CHUNK_BYTES)
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
                if isinstance(stream, Stream):
                    stream.put(delta)
                    self._touched.add(stream)
                    if stream.failed:  # for its reader's sake, and the engine knows nothing of that
                        del self._streams[stream.id]
                        self._outbox.put(stream.id, protocol.frame(protocol.Abort([stream.id])))
                self.generated_tokens += len(delta.token_ids)
            self._progress = time.monotonic()
            return (time.monotonic_ns() - event.sent_ns) * 1e-9 > LATE_SECONDS
        if isinstance(event, protocol.Dead) or (isinstance(event, protocol.Refused) and event.kind == "dead"):
            self._break(event.message)
        elif isinstance(event, protocol.Pong):
            self.unanswered_since = None
        elif isinstance(event, protocol.Refused):
            refused = self._streams.get(event.stream)
            if refused is not None:
                refused.fail(questions.refusal(event))
        elif isinstance(event, protocol.Answer):
            asked = self._streams.get(event.stream)
            if isinstance(asked, Asked):
                asked.put(event)
            if isinstance(event, protocol.Embedded):
                self._progress = time.monotonic()
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
