"""A worker's real server around an engine that says what a test says, and the other end of its link."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import pathlib
from collections.abc import AsyncIterator

from vllmd.worker import protocol
from vllmd.worker.backend import Output
from vllmd.worker.protocol import Answer, Command, Delta, Event, FrameSplitter, Generate, Question, Step
from vllmd.worker.report import EngineInfo, Measured
from vllmd.worker.server import Server
from vllmd.worker.spec import Spec

DEADLINE_SECONDS = 10.0

INFO = EngineInfo("0.25.1", 4096, 65536, "bfloat16", 1000)


class ScriptedBackend:
    """A `Backend` whose generations are fed by `say`."""

    def __init__(self) -> None:
        self.started: list[Generate] = []
        self.finished: list[int] = []
        """Streams that came to their end, well or not."""
        self.aborted: list[int] = []
        """Streams that were closed before that."""
        self.asked: list[Question] = []
        self.dead: str | None = None
        self.pings = 0
        self.hangs = False
        """Pings get no answer."""
        self.taken = 0
        """How many outputs the worker has asked for and got."""
        self._answers: dict[int, asyncio.Queue[Answer | Exception]] = collections.defaultdict(asyncio.Queue)
        self._outputs: dict[int, asyncio.Queue[Output | Exception]] = collections.defaultdict(asyncio.Queue)

    def say(self, stream: int, *outputs: Output | Exception) -> None:
        """Let a generation go on; an exception, or an output with a finish reason, ends it."""
        for output in outputs:
            self._outputs[stream].put_nowait(output)

    def reply(self, stream: int, answer: Answer | Exception) -> None:
        """Let a question have its answer, or fail."""
        self._answers[stream].put_nowait(answer)

    def load(self, spec: Spec) -> EngineInfo:
        return INFO

    async def add_adapters(self) -> None:
        """There are none."""

    async def measure(self, log: pathlib.Path) -> Measured:
        return Measured()

    async def ping(self) -> None:
        self.pings += 1
        if self.hangs:
            await asyncio.Event().wait()

    def capabilities(self) -> tuple[str, ...]:
        return ("scripted",)

    async def generate(self, request: Generate) -> AsyncIterator[Output]:
        self.started.append(request)
        try:
            while True:
                output = await self._outputs[request.stream].get()
                if isinstance(output, Exception):
                    self.finished.append(request.stream)
                    raise output
                self.taken += 1
                if output.finish_reason is not None:
                    self.finished.append(request.stream)
                yield output
                if output.finish_reason is not None:
                    return
        finally:
            if request.stream not in self.finished:
                self.aborted.append(request.stream)

    async def answer(self, question: Question) -> Answer:
        self.asked.append(question)
        try:
            answer = await self._answers[question.stream].get()
        except asyncio.CancelledError:
            self.aborted.append(question.stream)
            raise
        self.finished.append(question.stream)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def death(self) -> str | None:
        return self.dead

    def shutdown(self) -> None:
        """Nothing to end."""


class Peer:
    """The daemon's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._splitter = FrameSplitter()
        self._heard: list[Event] = []

    async def hear(self) -> Event:
        """Wait for the next event; `EOFError` once the worker has hung up."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self._heard:
                chunk = await self._reader.read(1 << 20)
                if not chunk:
                    raise EOFError
                self._heard += map(protocol.event_decoder.decode, self._splitter.feed(chunk))
        return self._heard.pop(0)

    async def deltas(self) -> list[Delta]:
        """Wait for the next step."""
        event = await self.hear()
        assert isinstance(event, Step), event
        return event.deltas

    def say(self, *commands: Command) -> None:
        """Send commands in one piece."""
        self.writer.write(b"".join(map(protocol.frame, commands)))

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class ScriptedWorker:
    """A server on a socket, whose engine is scripted."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.backend = ScriptedBackend()
        self.server = Server(self.backend, INFO, "0.1")
        self.peers: list[Peer] = []

    async def connect(self) -> Peer:
        """Connect as a daemon does, and hear the hello."""
        peer = Peer(*await asyncio.open_unix_connection(self.path))
        self.peers.append(peer)
        assert isinstance(await peer.hear(), protocol.Hello)
        return peer
