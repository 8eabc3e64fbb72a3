from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from tests.fakes.link_worker import HELLO, LinkWorker, soon, step, until
from vllmd.engines import outbox, streams
from vllmd.engines.link import Link
from vllmd.engines.streams import Stream
from vllmd.errors import EngineFailed, InvalidRequest, Unavailable
from vllmd.tasks import spawn
from vllmd.worker import protocol
from vllmd.worker.protocol import Abort, Dead, Event, FrameSplitter, Generate, Refused, TextPrompt, TokenPrompt

PROMPT = TextPrompt("hi")
GONE = Unavailable("ENGINE_STOPPED", "it was stopped")


@pytest.fixture
def worker() -> Iterator[LinkWorker]:
    """A worker that the link is connected to."""
    worker = LinkWorker()
    yield worker
    worker.close()


async def chunks(stream: Stream) -> list[list[int]]:
    """The tokens of each chunk up to the last."""
    got = [await soon(stream)]
    while got[-1].finish_reason is None:
        got.append(await soon(stream))
    return [chunk.token_ids for chunk in got]


@pytest.mark.parametrize(("late", "expected"), [(True, [[0, 1, 2, 3, 4]]), (False, [[0], [1], [2], [3], [4]])])
async def test_late_frames_are_merged_and_those_in_time_are_not(
    worker: LinkWorker, late: bool, expected: list[list[int]]
) -> None:
    """A daemon that is behind catches up, and one that is not passes each token on as it comes."""
    stream = worker.link().start(PROMPT, {})
    reader = spawn("reader", chunks(stream))
    await asyncio.sleep(0)
    worker.say(*(step(token, late=late) for token in range(4)), step(4, late=late, finish="stop"))

    assert await reader == expected


async def test_draining_ends_in_time_to_wake_readers(worker: LinkWorker) -> None:
    """However much comes in late, clients see some of it every now and then."""

    class Flood(socket.socket):
        """Has always one more late frame."""

        def recv(self, *_: object) -> bytes:
            return protocol.frame(step(0, late=True))

    worker.say(step(0))
    with Flood(fileno=worker.other.detach()) as flood:
        flood.setblocking(False)
        link = worker.link(flood)
        stream = link.start(PROMPT, {})
        start = time.monotonic()
        chunk = await soon(stream)
        elapsed = time.monotonic() - start
        link.close(GONE)

    assert len(chunk.token_ids) > 10
    assert 0.05 <= elapsed < 5


async def test_commands_arrive_whole_and_in_order(worker: LinkWorker) -> None:
    """Each stream has a number of its own, and a stream that is left early is aborted."""
    link = worker.link()
    first, second = link.start(PROMPT, {"max_tokens": 3}), link.start(PROMPT, {})
    running = link.running
    link.end(first)

    assert worker.hear(3) == [
        Generate(first.id, PROMPT, {"max_tokens": 3}),
        Generate(second.id, PROMPT, {}),
        Abort([first.id]),
    ]
    assert (running, link.running) == (2, 1)


async def test_a_generation_whose_reader_is_too_slow_is_aborted(
    worker: LinkWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and once."""
    monkeypatch.setattr(streams, "MOST_BYTES", 1000)
    link = worker.link()
    stream = link.start(PROMPT, {})
    other = link.start(PROMPT, {})
    for _ in range(100):
        worker.say(step(1, stream.id))
    await until(lambda: stream.failed)
    link.end(stream)

    assert worker.hear(3)[2:] == [Abort([stream.id])]
    assert (link.running, other.failed) == (1, False)


async def test_token_ids_that_no_context_holds_are_refused_here(worker: LinkWorker) -> None:
    """Millions of them would be copied again and again; those that are to be cut are the engine's to cut."""
    link = worker.link()
    too_many = TokenPrompt([1] * (HELLO.engine.max_model_len + 1))
    with pytest.raises(InvalidRequest, match="max_model_len is"):
        link.start(too_many, {})
    link.start(too_many, {}, truncate_prompt_tokens=5)

    assert link.running == 1


async def test_stream_that_has_ended_is_not_aborted(worker: LinkWorker) -> None:
    """Nor is one that was left before."""
    link = worker.link()
    stream = link.start(PROMPT, {})
    worker.say(step(1, finish="length"))
    await soon(stream)
    link.end(stream)
    link.end(stream)
    link.start(PROMPT, {})

    assert [type(command) for command in worker.hear(2)] == [Generate, Generate]


async def test_worker_that_reads_nothing_is_sent_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What clients ask of one that hangs does not pile up here, and what they give up is not sent at all."""
    monkeypatch.setattr(outbox, "MAX_UNSENT_BYTES", 1 << 20)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        link = Link(ours, HELLO, FrameSplitter(), lambda _: None)
        large = TextPrompt("x" * (600 << 10))
        link.start(large, {})
        waiting = link.start(large, {})
        with pytest.raises(Unavailable) as refused:
            link.start(large, {})
        link.end(waiting)
        link.start(PROMPT, {})
        link.close(GONE)

    assert refused.value.reason == "ENGINE_STALLED"


async def test_commands_that_a_busy_worker_does_not_take_wait() -> None:
    """Prompts larger than the socket's buffer get there whole, and nobody is blocked by them."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    link = Link(ours, HELLO, FrameSplitter(), lambda _: None)
    prompts = [TextPrompt(f"{number} " * 200_000) for number in range(5)]
    for prompt in prompts:
        link.start(prompt, {})
    splitter = FrameSplitter()
    got: list[protocol.Command] = []
    async with asyncio.timeout(5):
        while len(got) < 5:
            chunk = await asyncio.get_running_loop().sock_recv(theirs, 1 << 20)
            got += map(protocol.command_decoder.decode, splitter.feed(chunk))
    link.close(GONE)
    theirs.close()

    assert [command.prompt for command in got if isinstance(command, Generate)] == prompts


async def test_prompt_that_fits_into_no_frame_is_refused_alone(worker: LinkWorker) -> None:
    """The worker would hang up on it and so end every stream, so nothing of it is sent."""
    link = worker.link()
    first = link.start(PROMPT, {})
    with pytest.raises(InvalidRequest) as refused:
        link.start(TextPrompt("x" * protocol.MAX_FRAME_BYTES), {})
    running = link.running
    second = link.start(PROMPT, {})
    commands = worker.hear(2)
    worker.say(step(1, first.id))

    assert refused.value.reason == "PROMPT_TOO_LARGE"
    assert running == 1
    assert commands == [Generate(first.id, PROMPT, {}), Generate(second.id, PROMPT, {})]
    assert (await soon(first)).token_ids == [1]


async def test_tokens_are_counted_also_those_that_nobody_waits_for(worker: LinkWorker) -> None:
    """An aborted stream may bring some more, which the engine has made all the same."""
    link = worker.link()
    stream = link.start(PROMPT, {})
    link.end(stream)
    worker.say(step(1), step(2, stream=99))
    await until(lambda: link.generated_tokens == 2)

    assert worker.closed == []


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        ("invalid", InvalidRequest, "INVALID_PROMPT_OR_PARAMS"),
        ("internal", EngineFailed, "GENERATION_FAILED"),
        ("a kind of the future", EngineFailed, "GENERATION_FAILED"),
    ],
)
async def test_refused_stream_fails_alone(worker: LinkWorker, kind: str, error: type[Exception], reason: str) -> None:
    """Its client learns whose fault it was; the others go on."""
    link = worker.link()
    refused, other = link.start(PROMPT, {}), link.start(PROMPT, {})
    worker.say(Refused(refused.id, kind, "too long"), Refused(99, kind, "ended before"), step(1, other.id))

    with pytest.raises(error, match="too long") as raised:
        await soon(refused)
    assert raised.value.reason == reason  # type: ignore[attr-defined]
    assert (await soon(other)).token_ids == [1]
    assert worker.closed == []


@pytest.mark.parametrize("last", [Dead("core is gone"), Refused(1, "dead", "core is gone")])
async def test_engine_that_says_it_is_dead_is_believed_once(worker: LinkWorker, last: Event) -> None:
    """What it generated before is there; what comes after that word is not looked at."""
    link = worker.link()
    stream = link.start(PROMPT, {})
    worker.say(step(1, late=True), last, Dead("again"))
    await until(lambda: worker.closed)
    worker.socket.close()
    await asyncio.sleep(0)
    link.close(GONE)

    assert worker.closed == ["core is gone"]
    assert (await soon(stream)).token_ids == [1]
    with pytest.raises(Unavailable, match="it was stopped"):
        await soon(stream)


async def test_worker_that_hangs_up_is_reported_once(worker: LinkWorker) -> None:
    """Streams get their error from whoever is told, and a new one has it at once."""
    link = worker.link()
    stream = link.start(PROMPT, {})
    worker.socket.close()
    await until(lambda: worker.closed)
    new = link.start(PROMPT, {})
    link.end(stream)

    assert worker.closed == ["the worker closed its connection"]
    with pytest.raises(Unavailable, match="has just died"):
        await soon(new)


async def test_command_that_can_not_be_sent_breaks_the_link_later(worker: LinkWorker) -> None:
    """Who sends it is in the middle of something and is not told on the spot."""
    link = worker.link()
    worker.socket.close()
    link.start(PROMPT, {})
    at_once = list(worker.closed)
    await until(lambda: worker.closed)
    await asyncio.sleep(0)

    assert at_once == []
    assert len(worker.closed) == 1


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", protocol.frame(Abort([1]))])
async def test_worker_that_makes_no_sense_is_hung_up_on(worker: LinkWorker, data: bytes) -> None:
    """An oversize frame, no msgpack, or a command where an event should be."""
    worker.link()
    worker.socket.send(data)
    await until(lambda: worker.closed)

    assert len(worker.closed) == 1
    assert worker.socket.recv(1) == b""


async def test_frame_in_pieces_is_put_together(worker: LinkWorker) -> None:
    """Nothing is told of it before it is whole."""
    stream = worker.link().start(PROMPT, {})
    data = protocol.frame(step(7, finish="stop"))
    for index in range(len(data)):
        worker.socket.send(data[index : index + 1])

    assert await chunks(stream) == [[7]]


async def test_close_ends_what_is_running_and_nothing_comes_after_it(worker: LinkWorker) -> None:
    """Each generation ends with the error; to close is not to break, and may be done twice."""
    link = worker.link()
    streams = [link.start(PROMPT, {}), link.start(PROMPT, {})]
    link.close(GONE)
    link.close(GONE)
    worker.hear(2)

    assert worker.socket.recv(1) == b""
    assert link.running == 0
    assert worker.closed == []
    for stream in streams:
        with pytest.raises(Unavailable, match="it was stopped"):
            await soon(stream)
