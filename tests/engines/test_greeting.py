from __future__ import annotations

import asyncio
import pathlib
import socket

import pytest

from tests.fakes.link_worker import HELLO, until
from tests.fakes.scripted_worker import INFO
from vllmd.engines import greeting
from vllmd.engines.greeting import connect
from vllmd.worker import protocol
from vllmd.worker.protocol import Dead, Hello


async def serve(path: pathlib.Path, first: bytes) -> asyncio.Server:
    """A worker that says *first* to whoever connects, and hangs up."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(speak, path)


async def test_connecting_hears_the_hello_and_what_follows(runtime: pathlib.Path) -> None:
    """Frames that came in one piece with the hello are not lost."""
    closed: list[str] = []
    path = runtime / "link.sock"
    async with await serve(path, protocol.frame(HELLO) + protocol.frame(Dead("at once"))):
        link = await connect(path, closed.append)
        await until(lambda: closed)

    assert link.hello == HELLO
    assert closed == ["at once"]


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        (protocol.frame(Hello(99, "9.0", 42, INFO)), "speaks protocol 99"),
        (protocol.frame(Dead("no")), "began with Dead"),
        (protocol.frame(HELLO)[:10], "hung up before its hello"),
        (b"\xff\xff\xff\xff", "frame of 4294967295 bytes"),
        (b"\0\0\0\1\xc1", "hello makes no sense"),
    ],
)
async def test_worker_that_does_not_speak_our_protocol_is_refused(
    runtime: pathlib.Path, first: bytes, complaint: str
) -> None:
    """And nothing stays open."""
    path = runtime / "link.sock"
    async with await serve(path, first):
        with pytest.raises(protocol.ProtocolError, match=complaint):
            await connect(path, lambda _: None)


async def test_nobody_listening_is_an_error(runtime: pathlib.Path) -> None:
    """Of the operating system's."""
    with pytest.raises(FileNotFoundError):
        await connect(runtime / "link.sock", lambda _: None)


async def test_worker_that_says_nothing_is_given_up(runtime: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says who was silent, and for how long."""
    monkeypatch.setattr(greeting, "_HELLO_SECONDS", 0.01)
    path = runtime / "link.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()

        with pytest.raises(TimeoutError, match=r"^the worker did not say hello within 0\.01 s$"):
            await connect(path, lambda _: None)
