from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.fakes.link_worker import HELLO, LinkWorker, soon, step
from vllmd.engines.link import Link
from vllmd.errors import InvalidRequest, NotPossible, VllmdError
from vllmd.worker.protocol import FrameSplitter, Generate, Refused, TextPrompt

PROMPT = TextPrompt("hi")


@pytest.fixture
def worker() -> Iterator[LinkWorker]:
    """A worker that the link is connected to."""
    worker = LinkWorker()
    yield worker
    worker.close()


async def test_what_goes_with_a_prompt_gets_to_the_worker(worker: LinkWorker) -> None:
    """Each option under its own name."""
    options = {"priority": -1, "cache_salt": "x", "truncate_prompt_tokens": 5, "whole": True}
    worker.link().start(PROMPT, {"n": 2}, priority=-1, cache_salt="x", truncate_prompt_tokens=5, whole=True)

    assert worker.hear(1) == [Generate(1, PROMPT, {"n": 2}, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", [1, 2])
async def test_an_earlier_worker_is_not_asked_for_what_it_would_ignore(worker: LinkWorker, protocol: int) -> None:
    """It goes on to generate what it can."""
    hello = msgspec.structs.replace(HELLO, protocol=protocol)
    link = Link(worker.other, hello, FrameSplitter(), worker.closed.append)
    with pytest.raises(NotPossible) as refused:
        link.start(PROMPT, {"n": 2})
    stream = link.start(PROMPT, {"temperature": 0.5})
    worker.say(step(7))

    assert refused.value.reason == "ENGINE_OUTDATED"
    assert worker.hear(1) == [Generate(1, PROMPT, {"temperature": 0.5})]
    assert (await soon(stream)).token_ids == [7]


@pytest.mark.parametrize(("kind", "error"), [("invalid", InvalidRequest), ("impossible", NotPossible)])
async def test_the_workers_reason_is_the_clients(worker: LinkWorker, kind: str, error: type[VllmdError]) -> None:
    """With its numbers, whatever they are called."""
    stream = worker.link().start(PROMPT, {})
    worker.say(Refused(stream.id, kind, "no", "PROMPT_TOO_LONG", {"prompt_tokens": "9", "reason": "x"}))
    with pytest.raises(error) as refused:
        await soon(stream)

    assert type(refused.value) is error
    assert isinstance(refused.value, VllmdError)
    assert refused.value.reason == "PROMPT_TOO_LONG"
    assert refused.value.metadata == {"prompt_tokens": "9", "reason": "x"}
