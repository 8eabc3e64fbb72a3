"""The worker's end of a link, by hand."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from tests.fakes.scripted_worker import INFO
from vllmd.engines.link import Link
from vllmd.engines.streams import Chunk, Stream
from vllmd.worker import protocol
from vllmd.worker.protocol import Delta, Event, FrameSplitter, Hello, Step

HELLO = Hello(protocol.PROTOCOL, "0.1", 42, INFO)


class LinkWorker:
    """The worker's end of a link. Its socket keeps frames apart: what it sends is received one frame at a time."""

    def __init__(self) -> None:
        self.socket, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.other.setblocking(False)
        self.closed: list[str] = []
        self._splitter = FrameSplitter()

    def link(self, connection: socket.socket | None = None) -> Link:
        """The daemon's end."""
        return Link(connection or self.other, HELLO, FrameSplitter(), self.closed.append)

    def say(self, *events: Event) -> None:
        """Send events, each as a packet."""
        for event in events:
            self.socket.send(protocol.frame(event))

    def hear(self, count: int) -> list[protocol.Command]:
        """Read so many commands, which have been sent already."""
        self.socket.settimeout(5)
        commands: list[protocol.Command] = []
        while len(commands) < count:
            bodies = self._splitter.feed(self.socket.recv(1 << 20))
            commands += map(protocol.command_decoder.decode, bodies)
        return commands

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
        self.other.close()


def step(token: int, stream: int = 1, late: bool = False, finish: str | None = None) -> Step:
    """A step with one token, as it leaves the worker, or as it left it a second ago."""
    return Step(time.monotonic_ns() - late * 10**9, [Delta(stream, f"{token} ", [token], finish)])


async def soon(stream: Stream) -> Chunk:
    """The next chunk."""
    async with asyncio.timeout(5):
        return await stream.next()


async def until(happens: Callable[[], object]) -> None:
    """Let the link go on until something has happened."""
    async with asyncio.timeout(5):
        while not happens():
            await asyncio.sleep(0)
