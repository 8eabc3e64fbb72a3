"""What a link tells of the engine's progress."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.link_worker import LinkWorker, soon, step, until
from tests.fakes.scripted_worker import INFO
from vllmd.engines.link import Link
from vllmd.worker import protocol
from vllmd.worker.protocol import FrameSplitter, Generate, Hello, TextPrompt

PROMPT = TextPrompt("hi")


@pytest.fixture
def worker() -> Iterator[LinkWorker]:
    """A worker that the link is connected to."""
    worker = LinkWorker()
    yield worker
    worker.close()


async def test_ping_is_awaited_until_its_answer_comes(worker: LinkWorker) -> None:
    """One at a time, so that what a worker that hangs does not read does not pile up."""
    link = worker.link()
    link.ping()
    link.ping()
    since = link.vitals.unanswered
    commands = worker.hear(1)
    worker.say(protocol.Pong(1))
    await until(lambda: link.vitals.unanswered is None)
    link.ping()

    assert since is not None
    assert commands == [protocol.Ping(1)]
    assert worker.hear(1) == [protocol.Ping(1)]


async def test_worker_of_the_version_before_is_not_pinged(worker: LinkWorker) -> None:
    """It would hang up on what it does not know."""
    link = Link(worker.other, Hello(1, "0.1", 42, INFO), FrameSplitter(), worker.closed.append)
    link.ping()
    link.start(PROMPT, {})

    assert worker.hear(1) == [Generate(1, PROMPT, {})]
    assert link.vitals.unanswered is None


async def test_a_request_whose_grammar_is_compiled_is_not_waited_for(worker: LinkWorker) -> None:
    """It may take minutes, in which EngineCore answers pings; with its first token it is one like others."""
    link = worker.link()
    stream = link.start(PROMPT, {"structured_outputs": {"regex": "a"}})
    compiling = link.vitals.running
    worker.say(step(1, stream.id))
    await until(lambda: link.vitals.running == 1)

    assert compiling == 0


async def test_progress_counts_from_the_first_request_and_with_each_token(worker: LinkWorker) -> None:
    """An engine that had nothing to do has made no progress, and does not hang for that."""
    link = worker.link()
    idle = link.vitals
    stream = link.start(PROMPT, {})
    begun = link.vitals
    link.start(PROMPT, {})
    second = link.vitals
    worker.say(step(1, stream.id))
    await soon(stream)

    assert (idle.running, begun.running, second.running) == (0, 1, 2)
    assert idle.progress < begun.progress == second.progress < link.vitals.progress
