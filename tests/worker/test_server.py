from __future__ import annotations

import asyncio
import gc
import pathlib
import stat
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.fakes.scripted_worker import DEADLINE_SECONDS, INFO, Peer, ScriptedWorker
from vllmd.tasks import spawn
from vllmd.worker import protocol
from vllmd.worker.backend import EngineDead, InvalidRequest, Output
from vllmd.worker.protocol import Abort, Dead, Delta, Generate, Refused, Step, TextPrompt

BIG = "x" * (8 << 20)
"""More than the socket and the worker's own buffer take."""


@pytest.fixture
async def worker(runtime: pathlib.Path) -> AsyncIterator[ScriptedWorker]:
    """A worker that serves until the end of the test."""
    worker = ScriptedWorker(runtime / "link.sock")
    await worker.server.listen(worker.path)
    serving = spawn("serve", worker.server.serve())
    yield worker
    worker.server.stop()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await serving
    for peer in worker.peers:
        await peer.close()


async def until(happens: Callable[[], object]) -> None:
    """Let the worker, which runs on this same loop, go on until something has happened."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not happens():
            await asyncio.sleep(0)


def generate(stream: int) -> Generate:
    """A request."""
    return Generate(stream, TextPrompt("hi"), {})


async def test_worker_speaks_first(worker: ScriptedWorker) -> None:
    """The daemon learns what it talks to before it says anything."""
    peer = Peer(*await asyncio.open_unix_connection(worker.path))
    worker.peers.append(peer)
    hello = await peer.hear()

    assert isinstance(hello, protocol.Hello)
    assert (hello.protocol, hello.vllmd_version, hello.engine) == (protocol.PROTOCOL, "0.1", INFO)
    assert hello.capabilities == ("scripted",)
    assert stat.S_IMODE(worker.path.stat().st_mode) == 0o600


async def test_outputs_arrive_as_deltas(worker: ScriptedWorker) -> None:
    """Nothing of an output is lost, and a stream that ended is forgotten."""
    peer = await worker.connect()
    peer.say(generate(1))
    worker.backend.say(1, Output("a", [1], None, None, 3, 2))
    first = await peer.deltas()
    worker.backend.say(1, Output("b", [2], "stop", "\n", 3, 2))
    second = await peer.deltas()

    assert first == [Delta(1, "a", [1], None, None, 3, 2)]
    assert second == [Delta(1, "b", [2], "stop", "\n", 3, 2)]


async def test_all_streams_of_a_step_share_one_frame(worker: ScriptedWorker) -> None:
    """An engine step of 64 streams costs the daemon one frame, with the time at which it left."""
    peer = await worker.connect()
    peer.say(*(generate(stream) for stream in range(64)))
    await until(lambda: len(worker.backend.started) == 64)
    before = time.monotonic_ns()
    for stream in range(64):
        worker.backend.say(stream, Output("t", [stream]))
    step = await peer.hear()

    assert isinstance(step, Step)
    assert sorted(delta.stream for delta in step.deltas) == list(range(64))
    assert before <= step.sent_ns <= time.monotonic_ns()


async def test_deltas_merge_while_the_daemon_is_behind(worker: ScriptedWorker) -> None:
    """What a slow daemon has not read yet grows no frame by frame, and is all there in the end."""
    peer = await worker.connect()
    peer.say(generate(1), generate(2))
    worker.backend.say(1, Output(BIG, [0]))
    await until(lambda: worker.backend.taken == 1)
    for count in range(1, 101):
        worker.backend.say(
            1, Output(f"{count},", [count], "stop" if count == 100 else None, 7 if count == 100 else None)
        )
        worker.backend.say(2, Output("", [count]))
    await until(lambda: worker.backend.taken == 201)
    first, second = await peer.deltas(), await peer.deltas()

    assert [len(delta.text) for delta in first] == [len(BIG)]
    assert sorted((delta.stream, delta.token_ids) for delta in second) == [
        (1, list(range(1, 101))),
        (2, list(range(1, 101))),
    ]
    merged = next(delta for delta in second if delta.stream == 1)
    assert merged.text == "".join(f"{count}," for count in range(1, 101))
    assert (merged.finish_reason, merged.stop_reason) == ("stop", 7)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (InvalidRequest("too long"), "invalid", "too long"),
        (EngineDead("gone"), "dead", "gone"),
        (ZeroDivisionError("oops"), "internal", "ZeroDivisionError: oops"),
    ],
)
async def test_failed_stream_is_refused_with_its_kind(
    worker: ScriptedWorker, error: Exception, kind: str, message: str
) -> None:
    """The daemon can tell whose fault it was, and the other streams go on."""
    peer = await worker.connect()
    peer.say(generate(1), generate(2))
    worker.backend.say(1, error)
    refused = await peer.hear()
    worker.backend.say(2, Output("fine", [1]))

    assert refused == Refused(1, kind, message)
    assert [delta.text for delta in await peer.deltas()] == ["fine"]


@pytest.mark.parametrize("text", ["a", BIG], ids=["at once", "while the daemon is behind"])
async def test_error_comes_after_what_was_generated_before(worker: ScriptedWorker, text: str) -> None:
    """A client gets every token up to the failure."""
    peer = await worker.connect()
    peer.say(generate(1))
    worker.backend.say(1, Output(text, [1]))
    await until(lambda: worker.backend.taken == 1)
    worker.backend.say(1, Output("b", [2]), InvalidRequest("no more"))
    await until(lambda: worker.backend.finished)
    events = [await peer.hear()]
    while not isinstance(events[-1], Refused):
        events.append(await peer.hear())

    steps = [event for event in events if isinstance(event, Step)]
    assert [token for step in steps for delta in step.deltas for token in delta.token_ids] == [1, 2]


async def test_abort_ends_exactly_the_streams_it_names(worker: ScriptedWorker) -> None:
    """The engine stops working for them at once; an unknown one is no error, for it may just have ended."""
    peer = await worker.connect()
    peer.say(generate(1), generate(2))
    await until(lambda: len(worker.backend.started) == 2)
    peer.say(Abort([1, 99]))
    await until(lambda: worker.backend.aborted)
    worker.backend.say(2, Output("still here", [1]))

    assert [delta.stream for delta in await peer.deltas()] == [2]
    assert worker.backend.aborted == [1]


async def test_abort_right_behind_its_request_leaves_nothing(worker: ScriptedWorker) -> None:
    """A client that leaves at once costs the engine nothing, and the worker does not remember it."""
    peer = await worker.connect()
    peer.say(generate(1), Abort([1]), generate(2))
    await until(lambda: worker.backend.started)
    await until(lambda: "stream 1" not in [o.get_name() for o in gc.get_objects() if isinstance(o, asyncio.Task)])

    assert [request.stream for request in worker.backend.started] == [2]


async def test_daemon_that_leaves_takes_its_streams_with_it(worker: ScriptedWorker) -> None:
    """Nobody would read their tokens; the next daemon finds an idle engine."""
    peer = await worker.connect()
    peer.say(generate(1), generate(2))
    await until(lambda: len(worker.backend.started) == 2)
    await peer.close()
    await until(lambda: len(worker.backend.aborted) == 2)
    other = await worker.connect()
    other.say(generate(1))
    worker.backend.say(1, Output("new", [1]))

    assert [delta.text for delta in await other.deltas()] == ["new"]


async def test_newer_daemon_replaces_the_older(worker: ScriptedWorker) -> None:
    """The older one must be dead to have lost the lock, whatever its socket says."""
    old = await worker.connect()
    old.say(generate(1))
    await until(lambda: worker.backend.started)
    new = await worker.connect()
    new.say(generate(1))
    await until(lambda: len(worker.backend.started) == 2)
    worker.backend.say(1, Output("a", [1]))

    with pytest.raises(EOFError):
        await old.hear()
    assert worker.backend.aborted == [1]
    assert [delta.text for delta in await new.deltas()] == ["a"]


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", protocol.frame(Dead("I am no daemon"))])
async def test_peer_that_makes_no_sense_is_hung_up_on(worker: ScriptedWorker, data: bytes) -> None:
    """Its streams end, and a sane one is served after it."""
    peer = await worker.connect()
    peer.say(generate(1))
    await until(lambda: worker.backend.started)
    peer.writer.write(data)

    with pytest.raises(EOFError):
        await peer.hear()
    await until(lambda: worker.backend.aborted == [1])
    await worker.connect()


async def test_death_of_the_engine_is_told_and_ends_the_worker(runtime: pathlib.Path) -> None:
    """The daemon hears why before the connection ends, and nobody can connect any more."""
    worker = ScriptedWorker(runtime / "link.sock")
    await worker.server.listen(worker.path)
    serving = spawn("serve", worker.server.serve())
    peer = await worker.connect()
    worker.backend.dead = "EngineCore ended with status -9"
    heard = await peer.hear()

    assert heard == Dead("EngineCore ended with status -9")
    with pytest.raises(EOFError):
        await peer.hear()
    assert await asyncio.wait_for(serving, DEADLINE_SECONDS) == "EngineCore ended with status -9"
    with pytest.raises(ConnectionRefusedError):
        await worker.connect()
    await peer.close()


async def test_stopped_worker_hangs_up_without_a_death(runtime: pathlib.Path) -> None:
    """A stop is no failure, even if nobody ever connected."""
    worker = ScriptedWorker(runtime / "link.sock")
    await worker.server.listen(worker.path)
    worker.server.stop()

    assert await asyncio.wait_for(worker.server.serve(), DEADLINE_SECONDS) is None


async def test_ping_is_answered_once_the_engine_has_answered(worker: ScriptedWorker) -> None:
    """Not by the worker itself; while one answer is awaited, no second ping goes to the engine."""
    peer = await worker.connect()
    worker.backend.hangs = True
    peer.say(protocol.Ping(1), protocol.Ping(2))
    worker.backend.say(5, Output("a", [1], "stop"))
    peer.say(Generate(5, TextPrompt("x"), {}))
    first = await peer.deltas()

    assert [delta.stream for delta in first] == [5]
    assert worker.backend.pings == 1

    await peer.close()
    again = await worker.connect()
    worker.backend.hangs = False
    again.say(protocol.Ping(3))

    assert await again.hear() == protocol.Pong(3)
