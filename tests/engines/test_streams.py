from __future__ import annotations

import asyncio

import pytest

from vllmd.engines import streams
from vllmd.engines.streams import PIECE_CANDIDATES, PIECE_TOKENS, Chunk, Stream
from vllmd.errors import EngineFailed, Exhausted, Unavailable
from vllmd.tasks import spawn
from vllmd.worker.protocol import Candidate, Delta

GONE = Unavailable("ENGINE_DIED", "it died")


async def soon(stream: Stream) -> Chunk:
    """The next chunk, which is there already or about to be."""
    async with asyncio.timeout(5):
        return await stream.next()


async def test_what_gathered_comes_as_one_chunk_in_order() -> None:
    """A slow reader gets few large chunks."""
    stream = Stream(1)
    stream.put(Delta(1, "a", [1], prompt_tokens=5, cached_tokens=2))
    stream.put(Delta(1, "b", [2, 3]))

    assert await soon(stream) == Chunk("ab", [1, 2, 3], None, None)
    assert (stream.prompt_tokens, stream.cached_tokens, stream.completion_tokens) == (5, 2, 3)


async def test_last_chunk_says_why_it_is_the_last() -> None:
    """What a chunk held is not repeated in the next."""
    stream = Stream(1)
    stream.put(Delta(1, "a", [1]))
    await soon(stream)
    stream.put(Delta(1, "b", [2], "stop", "\n"))

    assert stream.ended
    assert await soon(stream) == Chunk("b", [2], "stop", "\n", last=True)


async def test_end_without_tokens_is_a_chunk_too() -> None:
    """An abort, or a stop text that was cut off, may bring nothing but the reason."""
    stream = Stream(1)
    stream.put(Delta(1, "", [], "abort"))

    assert await soon(stream) == Chunk("", [], "abort", None, last=True)


async def test_text_without_tokens_is_a_chunk_too() -> None:
    """Text that vLLM held back comes when it is known not to begin a stop text."""
    stream = Stream(1)
    stream.put(Delta(1, "late", []))

    assert await soon(stream) == Chunk("late", [], None, None)


async def test_delta_without_anything_wakes_nobody() -> None:
    """A step that brought a stream nothing is no message to its client."""
    stream = Stream(1)
    reader = spawn("reader", soon(stream))
    await asyncio.sleep(0)
    stream.put(Delta(1, "", []))
    stream.wake()
    await asyncio.sleep(0)
    asleep = not reader.done()
    stream.put(Delta(1, "a", [1]))
    stream.wake()

    assert asleep
    assert await reader == Chunk("a", [1], None, None)


async def test_reader_sleeps_until_it_is_woken() -> None:
    """The link says when, so that all frames that have arrived make one chunk."""
    stream = Stream(1)
    reader = spawn("reader", soon(stream))
    await asyncio.sleep(0)
    for token in range(5):
        stream.put(Delta(1, "t", [token]))
        await asyncio.sleep(0)
    asleep = not reader.done()
    stream.wake()

    assert asleep
    assert await reader == Chunk("ttttt", [0, 1, 2, 3, 4], None, None)


async def test_error_comes_after_what_was_generated_before_it() -> None:
    """A client gets all that there is of a generation that failed, and then why."""
    stream = Stream(1)
    stream.put(Delta(1, "a", [1]))
    stream.put(Delta(1, "b", []))
    stream.fail(GONE)

    assert stream.ended
    assert await soon(stream) == Chunk("ab", [1], None, None)
    with pytest.raises(Unavailable, match="it died"):
        await soon(stream)


async def test_error_wakes_the_reader() -> None:
    """Nobody waits for a dead engine."""
    stream = Stream(1)
    reader = spawn("reader", soon(stream))
    await asyncio.sleep(0)
    stream.fail(GONE)

    with pytest.raises(Unavailable):
        await reader


async def test_first_end_counts() -> None:
    """A generation that was finished is not spoiled by what happens to its engine, nor one error by another."""
    finished, failed = Stream(1), Stream(2)
    finished.put(Delta(1, "a", [1], "length"))
    finished.fail(GONE)
    failed.fail(GONE)
    failed.fail(EngineFailed("OTHER", "later"))

    assert (await soon(finished)).finish_reason == "length"
    with pytest.raises(Unavailable):
        await soon(failed)


async def test_reader_that_was_cancelled_loses_nothing() -> None:
    """The next one takes over where it was."""
    stream = Stream(1)
    reader = spawn("reader", soon(stream))
    await asyncio.sleep(0)
    reader.cancel()
    stream.put(Delta(1, "a", [1]))
    stream.wake()

    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await soon(stream) == Chunk("a", [1], None, None)


async def test_completions_have_chunks_of_their_own_and_take_turns() -> None:
    """Whose tokens have waited longest comes first; the stream has ended with the last of them."""
    stream = Stream(1)
    stream.put(Delta(1, "a", [1], index=1))
    stream.put(Delta(1, "x", [7], index=0))
    stream.put(Delta(1, "b", [2], "stop", "b", index=1, last=False))
    first = await soon(stream)
    stream.put(Delta(1, "y", [8], index=0))
    second, ended = await soon(stream), stream.ended
    stream.put(Delta(1, "z", [9], "length", index=0))

    assert first == Chunk("ab", [1, 2], "stop", "b", index=1)
    assert second == Chunk("xy", [7, 8], None, None, index=0)
    assert not ended
    assert await soon(stream) == Chunk("z", [9], "length", None, last=True, index=0)
    assert stream.completion_tokens == 5


async def test_only_the_very_last_chunk_is_the_last() -> None:
    """All completions may have ended before the first of their chunks is read."""
    stream = Stream(1)
    stream.put(Delta(1, "a", [1], "stop", index=0, last=False))
    stream.put(Delta(1, "b", [2], "stop", index=1))
    stream.fail(GONE)

    assert [(await soon(stream)).last, (await soon(stream)).last] == [False, True]


async def test_log_probabilities_gather_with_their_tokens() -> None:
    """There are as many places as tokens, and those of the prompt come once."""
    stream = Stream(1)
    places = [[Candidate(token, -1.0, 1, "t")] for token in range(3)]
    stream.put(Delta(1, "a", [0], logprobs=places[:1], prompt_logprobs=[[]]))
    stream.put(Delta(1, "b", [1, 2], logprobs=places[1:]))
    first = await soon(stream)
    stream.put(Delta(1, "c", [3], "stop", logprobs=[]))

    assert first == Chunk("ab", [0, 1, 2], None, None, logprobs=places, prompt_logprobs=[[]])
    assert (await soon(stream)).prompt_logprobs is None


async def test_what_has_gathered_comes_in_pieces() -> None:
    """Each becomes a message, which takes the loop that serves everybody."""
    stream = Stream(1)
    for number in range(2 * PIECE_TOKENS + 2):
        stream.put(Delta(1, "x", [number]))
    stream.put(Delta(1, "", [], "stop"))
    chunks = [await soon(stream) for _ in range(3)]

    assert [len(chunk.token_ids) for chunk in chunks] == [PIECE_TOKENS, PIECE_TOKENS, 2]
    assert [token for chunk in chunks for token in chunk.token_ids] == list(range(2 * PIECE_TOKENS + 2))
    assert [(chunk.finish_reason, chunk.last) for chunk in chunks] == [(None, False), (None, False), ("stop", True)]


async def test_many_log_probabilities_come_in_pieces() -> None:
    """Of few tokens, that is."""
    stream = Stream(1)
    place = [Candidate(0, -1.0, 1, "t")] * 64
    for _ in range(2 * PIECE_CANDIDATES // 64):
        stream.put(Delta(1, "x", [0], logprobs=[place]))

    assert [len((await soon(stream)).token_ids) for _ in range(2)] == [PIECE_CANDIDATES // 64] * 2


@pytest.mark.parametrize("bounded", [True, False])
async def test_a_reader_for_whom_too_much_has_gathered_gets_no_more(
    monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    """Unless it is one of the daemon's own, who takes what it gets; what was read before does not count."""
    monkeypatch.setattr(streams, "MOST_BYTES", 10_000)
    stream = Stream(1, bounded=bounded)
    for _ in range(50):
        stream.put(Delta(1, "xx", [1, 2]))
    assert len((await soon(stream)).token_ids) == 100
    for _ in range(100):
        stream.put(Delta(1, "xx", [1, 2]))

    assert stream.failed is bounded
    if bounded:
        with pytest.raises(Exhausted, match="did not read") as refused:
            await soon(stream)
        assert (refused.value.reason, refused.value.retry_seconds) == ("READER_TOO_SLOW", None)
    else:
        assert len((await soon(stream)).token_ids) == 200


def test_a_grammar_takes_its_time_before_the_first_token() -> None:
    """Meanwhile no token is expected of it."""
    plain, compiling = Stream(1), Stream(2, compiles=True)
    before = plain.in_core, compiling.in_core
    compiling.put(Delta(2, "{", [1]))

    assert before == (True, False)
    assert compiling.in_core
