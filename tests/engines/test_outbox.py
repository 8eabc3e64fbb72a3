from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from vllmd.engines import outbox
from vllmd.engines.outbox import Outbox


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection, the worker's end last."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def read(connection: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    got = b""
    async with asyncio.timeout(5):
        while len(got) < size:
            got += await asyncio.get_running_loop().sock_recv(connection, 1 << 20)
    return got


def fill(ours: socket.socket) -> int:
    """Fill the connection to its brim, as before a worker that does not read; returns how many bytes that took."""
    sent = 0
    try:
        while True:
            sent += ours.send(b"-" * 4096)
    except BlockingIOError:
        return sent


async def test_frames_leave_whole_and_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    """However slowly the worker reads."""
    ours, theirs = ends
    box = Outbox(ours, pytest.fail)
    frames = [bytes([number]) * 300_000 for number in range(5)]
    for number, frame in enumerate(frames):
        box.put(number, frame)

    assert await read(theirs, 1_500_000) == b"".join(frames)
    assert box.has_room(outbox.MAX_UNSENT_BYTES)


async def test_what_has_not_left_is_taken_back(ends: tuple[socket.socket, socket.socket]) -> None:
    """A request that was given up before the worker read it never gets there; one that has begun to leave does."""
    ours, theirs = ends
    box = Outbox(ours, pytest.fail)
    box.put(1, b"1" * 2_000_000)
    box.put(2, b"2" * 2_000_000)
    box.put(3, b"3" * 100)
    withdrawn = [box.withdraw(stream) for stream in (1, 2, 4)]

    assert withdrawn == [False, True, False]
    assert await read(theirs, 2_000_100) == b"1" * 2_000_000 + b"3" * 100


async def test_what_waits_is_bounded(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One frame may always wait, whatever its size; what is taken back or forgotten makes room again."""
    monkeypatch.setattr(outbox, "MAX_UNSENT_BYTES", 1000)
    ours, _ = ends
    fill(ours)
    box = Outbox(ours, pytest.fail)
    before = box.has_room(5000)
    box.put(1, b"x" * 900)
    full = box.has_room(100), box.has_room(101)
    box.withdraw(1)
    withdrawn = box.has_room(5000)
    box.put(2, b"x" * 900)
    box.close()

    assert (before, full, withdrawn) == (True, (True, False), True)
    assert box.has_room(5000)


async def test_a_worker_that_is_gone_is_told_later(ends: tuple[socket.socket, socket.socket]) -> None:
    """Who puts a frame is in the middle of something; nothing is kept for nobody."""
    ours, theirs = ends
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    box = Outbox(ours, told.set_result)
    theirs.close()
    box.put(1, b"x")
    at_once = told.done()

    assert not at_once
    assert "Broken pipe" in await asyncio.wait_for(told, 5)
    assert not box.withdraw(1)
