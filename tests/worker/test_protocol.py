from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.worker import protocol
from vllmd.worker.protocol import (
    Abort,
    ChatPrompt,
    Command,
    Dead,
    Delta,
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    Event,
    FrameSplitter,
    Generate,
    Hello,
    Ping,
    Pong,
    Prompt,
    ProtocolError,
    Refused,
    Step,
    TextPrompt,
    Tokenize,
    Tokenized,
    TokenPrompt,
)
from vllmd.worker.report import EngineInfo, Measured


def split(chunks: list[bytes]) -> list[bytes]:
    """Every body that a splitter finds in *chunks*."""
    splitter = FrameSplitter()
    return [body for chunk in chunks for body in splitter.feed(chunk)]


def framed(body: bytes) -> bytes:
    """A frame around any body."""
    return len(body).to_bytes(4, "big") + body


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_frames_come_out_whole_however_the_bytes_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    """Where the kernel cuts the stream makes no difference to what is read from it."""
    stream = b"".join(framed(body) for body in bodies)
    ends = sorted(min(cut, len(stream)) for cut in cuts)
    chunks = [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]

    assert split(chunks) == bodies


@given(st.lists(st.binary(max_size=10), min_size=1, max_size=6), st.integers(1, 6))
def test_frames_that_a_reader_left_are_there_for_the_next(bodies: list[bytes], taken: int) -> None:
    """Who stops half-way through a chunk, as after a hello, loses none of what follows."""
    splitter = FrameSplitter()
    first = splitter.feed(b"".join(framed(body) for body in bodies))
    seen = list(itertools.islice(first, taken))
    del first

    assert [*seen, *splitter.feed(b"")] == bodies


def test_frame_that_claims_too_much_is_refused_before_it_is_there() -> None:
    """Four bytes are enough to tell a broken peer; nothing is gathered for it."""
    header = (protocol.MAX_FRAME_BYTES + 1).to_bytes(4, "big")

    with pytest.raises(ProtocolError, match="frame of 67108865 bytes"):
        split([header[:3], header[3:]])


def test_frames_before_a_bad_one_are_still_read() -> None:
    """A peer that breaks does not take back what it said before."""
    splitter = FrameSplitter()
    bodies = splitter.feed(framed(b"good") + b"\xff\xff\xff\xff")

    assert next(bodies) == b"good"
    with pytest.raises(ProtocolError):
        next(bodies)


@pytest.mark.parametrize("prompt", [TextPrompt("hi"), TokenPrompt([1, 2]), ChatPrompt([{"role": "user"}], {"a": 1})])
def test_commands_survive_the_wire(prompt: Prompt) -> None:
    """The worker reads what the daemon meant, the kind of prompt included."""
    commands: list[Command] = [
        Generate(7, prompt, {"max_tokens": 3, "stop": ["a"]}),
        Embed(8, prompt, 4, False, 5),
        Tokenize(9, prompt, True),
        Detokenize(10, [1, 2], True),
        Abort([7, 8]),
        Ping(3),
    ]

    assert [protocol.command_decoder.decode(body) for body in split([*map(protocol.frame, commands)])] == commands


def test_events_survive_the_wire() -> None:
    """The daemon reads what the worker meant."""
    events: list[Event] = [
        Hello(1, "0.1", 42, EngineInfo("0.25.1", 4096, None, "bfloat16", 1000), ("sleep",)),
        Hello(2, "0.1", 42, EngineInfo("0.25.1", 4096, 7, "", 9, Measured(1, 2, 3, 4, None, 5, 6))),
        Step(123, [Delta(1, "é", [5], None, None, 3, 2), Delta(2, "", [6], "stop", "\n")]),
        Refused(3, "invalid", "no", "WHY", {"bytes": "7"}),
        Embedded(4, b"\0\0\x80?", 3),
        Tokenized(5, [1, 2], ["a", "b"]),
        Detokenized(6, "a"),
        Pong(3),
        Dead("gone"),
    ]

    assert [protocol.event_decoder.decode(body) for body in split([*map(protocol.frame, events)])] == events


def test_older_peer_may_leave_out_fields_and_a_newer_one_add_some() -> None:
    """What goes to the end of a struct later hurts nobody: it has a default, or is not looked at."""
    shorter = msgspec.msgpack.encode(["hello", 1, "0.1", 42, ["0.25.1", 4096]])
    longer = msgspec.msgpack.encode(["refused", 3, "invalid", "no", "WHY", {"number": "5"}, "a field of the future"])

    earlier = msgspec.msgpack.encode(["step", 7, [[3, "a", [1], "stop", None, 5, 0]]])

    assert protocol.event_decoder.decode(earlier) == Step(7, [Delta(3, "a", [1], "stop", prompt_tokens=5)])
    assert protocol.event_decoder.decode(shorter) == Hello(1, "0.1", 42, EngineInfo("0.25.1", 4096))
    assert protocol.event_decoder.decode(longer) == Refused(3, "invalid", "no", "WHY", {"number": "5"})


def test_events_are_no_commands() -> None:
    """A peer that answers in the wrong direction is not understood."""
    body = protocol.frame(Dead("gone"))[4:]

    with pytest.raises(msgspec.DecodeError):
        protocol.command_decoder.decode(body)


def test_worker_speaks_what_the_daemon_understands() -> None:
    """Both are released together; after an upgrade the daemon has workers of the version before."""
    assert protocol.PROTOCOL in protocol.SPOKEN
    assert protocol.PROTOCOL - 1 in protocol.SPOKEN
