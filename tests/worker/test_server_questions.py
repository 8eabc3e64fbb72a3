from __future__ import annotations

import pytest

from tests.fakes.scripted_worker import ScriptedWorker
from tests.worker.test_server import until, worker  # noqa: F401 - a fixture
from vllmd.worker import protocol
from vllmd.worker.backend import EngineDead, Impossible, InvalidRequest
from vllmd.worker.protocol import (
    Abort,
    Answer,
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    Refused,
    TextPrompt,
    Tokenize,
    Tokenized,
)

HI = TextPrompt("hi")


async def test_questions_are_answered_in_any_order(worker: ScriptedWorker) -> None:  # noqa: F811
    """Each as soon as the engine can, and apart from generations."""
    peer = await worker.connect()
    peer.say(Embed(1, HI), Tokenize(2, HI), Detokenize(3, [1]))
    answers: list[Answer] = [Detokenized(3, "x"), Embedded(1, b"1234", 2), Tokenized(2, [5], [])]
    for answer in answers:
        worker.backend.reply(answer.stream, answer)
        assert await peer.hear() == answer

    assert {question.stream for question in worker.backend.asked} == {1, 2, 3}


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (InvalidRequest("no", "WHY", most=3), Refused(1, "invalid", "no", "WHY", {"most": "3"})),
        (Impossible("never"), Refused(1, "impossible", "never")),
        (EngineDead("gone"), Refused(1, "dead", "gone")),
        (ZeroDivisionError("oh"), Refused(1, "internal", "ZeroDivisionError: oh")),
    ],
)
async def test_what_can_not_be_answered_is_refused(
    worker: ScriptedWorker,  # noqa: F811
    error: Exception,
    refused: Refused,
) -> None:
    """With what the engine says of it; the next question is none the worse for it."""
    peer = await worker.connect()
    peer.say(Embed(1, HI))
    worker.backend.reply(1, error)
    heard = await peer.hear()
    peer.say(Embed(2, HI))
    worker.backend.reply(2, Embedded(2, b"", 1))

    assert heard == refused
    assert await peer.hear() == Embedded(2, b"", 1)


async def test_a_question_that_is_aborted_gets_no_answer(worker: ScriptedWorker) -> None:  # noqa: F811
    """The engine is told, as it is when the daemon goes."""
    peer = await worker.connect()
    peer.say(Embed(1, HI), Embed(2, HI))
    await until(lambda: len(worker.backend.asked) == 2)
    peer.say(Abort([1]))
    await until(lambda: worker.backend.aborted == [1])
    await peer.close()
    await until(lambda: worker.backend.aborted == [1, 2])


async def test_an_answer_that_no_frame_holds_is_refused(
    worker: ScriptedWorker,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The daemon would take it for the end of a sane worker."""
    peer = await worker.connect()
    monkeypatch.setattr(protocol, "MAX_FRAME_BYTES", 1000)
    peer.say(Tokenize(1, HI))
    worker.backend.reply(1, Tokenized(1, [5] * 2000))
    heard = await peer.hear()

    assert isinstance(heard, Refused)
    assert (heard.kind, heard.reason, heard.metadata["limit_bytes"]) == ("invalid", "ANSWER_TOO_LARGE", "1000")
