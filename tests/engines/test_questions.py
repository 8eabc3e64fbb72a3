from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from tests.fakes.link_worker import HELLO, LinkWorker
from tests.fakes.scripted_worker import INFO
from vllmd.engines import questions
from vllmd.engines.link import Link
from vllmd.engines.questions import Asked
from vllmd.errors import EngineFailed, InvalidRequest, NotPossible, Unavailable, VllmdError
from vllmd.tasks import spawn
from vllmd.worker.protocol import (
    Abort,
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    FrameSplitter,
    Generate,
    Hello,
    Question,
    Refused,
    TextPrompt,
    Tokenize,
    Tokenized,
)

HI = TextPrompt("hi")
GONE = Unavailable("ENGINE_STOPPED", "it was stopped")


@pytest.fixture
def worker() -> Iterator[LinkWorker]:
    """A worker that the link is connected to."""
    worker = LinkWorker()
    yield worker
    worker.close()


def pooling(worker: LinkWorker) -> Link:
    """A link to an engine that makes vectors."""
    hello = msgspec.structs.replace(HELLO, engine=msgspec.structs.replace(INFO, runner_type="pooling"))
    return Link(worker.other, hello, FrameSplitter(), worker.closed.append)


async def answered(asked: Asked) -> object:
    """The answer, soon."""
    async with asyncio.timeout(5):
        return await asked.answer()


async def test_each_question_has_its_answer(worker: LinkWorker) -> None:
    """In whatever order they come; each has a number of its own."""
    link = pooling(worker)
    first, second, third = link.ask(Embed(0, HI)), link.ask(Tokenize(0, HI, texts=True)), link.ask(Detokenize(0, [1]))
    heard = worker.hear(3)
    embedded, tokenized, text = Embedded(1, b"\0\0\0\0", 2), Tokenized(2, [4], ["hi"]), Detokenized(3, "x")
    worker.say(text, tokenized, embedded)

    assert heard == [Embed(1, HI), Tokenize(2, HI, texts=True), Detokenize(3, [1])]
    assert [await answered(asked) for asked in (first, second, third)] == [embedded, tokenized, text]


async def test_a_question_that_is_given_up_is_aborted(worker: LinkWorker) -> None:
    """One that has been answered is not; what comes too late hurts nobody."""
    link = pooling(worker)
    first, second = link.ask(Embed(0, HI)), link.ask(Embed(0, HI))
    worker.say(Embedded(second.id, b"", 2))
    await answered(second)
    link.end(second)
    link.end(first)
    third = link.ask(Embed(0, HI))
    worker.say(Embedded(first.id, b"", 2), Embedded(third.id, b"1234", 2))

    assert worker.hear(4)[2:] == [Abort([first.id]), Embed(third.id, HI)]
    assert await answered(third) == Embedded(third.id, b"1234", 2)
    assert link.running == 1


@pytest.mark.parametrize(
    ("kind", "reason", "error", "shown"),
    [
        ("invalid", "", InvalidRequest, "INVALID_PROMPT_OR_PARAMS"),
        ("invalid", "TOKEN_OUT_OF_VOCABULARY", InvalidRequest, "TOKEN_OUT_OF_VOCABULARY"),
        ("impossible", "DIMENSIONS_UNSUPPORTED", NotPossible, "DIMENSIONS_UNSUPPORTED"),
        ("internal", "", EngineFailed, "GENERATION_FAILED"),
    ],
)
async def test_a_refusal_is_the_error_of_the_question(
    worker: LinkWorker, kind: str, reason: str, error: type[VllmdError], shown: str
) -> None:
    """With the reason and the numbers that the worker gives."""
    asked = pooling(worker).ask(Embed(0, HI))
    worker.say(Refused(asked.id, kind, "no", reason, {"largest": "64"}))
    with pytest.raises(error) as refused:
        await answered(asked)

    assert refused.value.reason == shown
    assert kind == "internal" or refused.value.metadata == {"largest": "64"}


async def test_questions_end_with_their_link(worker: LinkWorker) -> None:
    """Those that wait, and those that come after it."""
    link = pooling(worker)
    asked = link.ask(Embed(0, HI))
    link.close(GONE)
    late = link.ask(Embed(0, HI))

    with pytest.raises(Unavailable, match="was stopped"):
        await answered(asked)
    with pytest.raises(Unavailable, match="just died"):
        await answered(late)
    assert not link.open


@pytest.mark.parametrize("question", [Embed(0, HI), Tokenize(0, HI), Detokenize(0, [1])])
@pytest.mark.parametrize("protocol", [1, 2])
async def test_workers_of_before_are_asked_nothing(worker: LinkWorker, question: Question, protocol: int) -> None:
    """They would hang up on it; the client is told what helps."""
    link = Link(worker.other, Hello(protocol, "0.1", 42, INFO), FrameSplitter(), worker.closed.append)
    with pytest.raises(NotPossible, match="release it and load it again") as refused:
        link.ask(question)

    assert refused.value.reason == "ENGINE_OUTDATED"
    assert link.running == 0


@pytest.mark.parametrize(
    ("runner", "request_", "reason"),
    [
        ("pooling", Generate(1, HI, {}), "NOT_A_GENERATING_MODEL"),
        ("generate", Embed(1, HI), "NOT_AN_EMBEDDING_MODEL"),
        ("pooling", Embed(1, HI), None),
        ("generate", Generate(1, HI, {}), None),
        ("pooling", Tokenize(1, HI), None),
        ("generate", Detokenize(1, [1]), None),
    ],
)
def test_engines_do_what_they_are_for(runner: str, request_: Generate | Question, reason: str | None) -> None:
    """Tokens any of them can make."""
    found = None
    try:
        questions.check_runner(runner, request_)
    except NotPossible as error:
        found = error.reason

    assert found == reason


async def test_only_what_goes_through_the_core_tells_of_its_progress(worker: LinkWorker) -> None:
    """A long text that is tokenized is no engine that hangs; a vector that came is a sign of life."""
    link = pooling(worker)
    link.ask(Tokenize(0, HI))
    idle = link.vitals
    await asyncio.sleep(0)
    asked = link.ask(Embed(0, HI))
    busy = link.vitals
    worker.say(Embedded(asked.id, b"", 1))
    await answered(asked)

    assert idle.running == 0
    assert busy.running == 1
    assert busy.progress > idle.progress
    assert link.vitals.progress > busy.progress


async def test_whoever_waits_can_be_cancelled(worker: LinkWorker) -> None:
    """The answer that comes then is nobody's."""
    link = pooling(worker)
    asked = link.ask(Embed(0, HI))
    waiting = spawn("waits", asked.answer())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    worker.say(Embedded(asked.id, b"", 1))
    other = link.ask(Embed(0, HI))
    worker.say(Embedded(other.id, b"", 1))

    assert await answered(other) == Embedded(other.id, b"", 1)
    assert asked.ended
