"""How a link begins: the daemon connects, and hears the worker's hello."""

from __future__ import annotations

import asyncio
import pathlib
import socket
from collections.abc import Callable

import msgspec

from vllmd.engines.link import CHUNK_BYTES, Link
from vllmd.worker import protocol

_HELLO_SECONDS = 10.0


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
        chunk = await loop.sock_recv(connection, CHUNK_BYTES)
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
