from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator

import pytest

from tests.fakes.scripted_worker import DEADLINE_SECONDS, ScriptedWorker
from vllmd.tasks import spawn
from vllmd.worker import protocol
from vllmd.worker.backend import Impossible, InvalidRequest, Output
from vllmd.worker.protocol import Candidate, Delta, Generate, Refused, TextPrompt


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


def generate(stream: int) -> Generate:
    """A request."""
    return Generate(stream, TextPrompt("hi"), {})


def places(*tokens: int) -> list[list[Candidate]]:
    """Log probabilities of some tokens."""
    return [[Candidate(token, -1.0, 1, "t")] for token in tokens]


async def test_completions_of_a_stream_are_told_apart(worker: ScriptedWorker) -> None:
    """In one frame if they came in one step; each merges with its own."""
    peer = await worker.connect()
    peer.say(generate(1))
    worker.backend.say(1, Output("a", [1], index=0), Output("b", [2], index=1), Output("c", [3], index=0))
    first = await peer.deltas()
    worker.backend.say(1, Output("d", [4], "stop", index=1, last=False))

    assert first == [Delta(1, "ac", [1, 3], index=0), Delta(1, "b", [2], index=1)]


async def test_log_probabilities_merge_with_their_tokens(worker: ScriptedWorker) -> None:
    """Those of the prompt come with the first, and stay."""
    peer = await worker.connect()
    peer.say(generate(1))
    worker.backend.say(
        1, Output("a", [1], logprobs=places(1), prompt_logprobs=[[]]), Output("b", [2], logprobs=places(2))
    )

    assert await peer.deltas() == [Delta(1, "ab", [1, 2], logprobs=places(1, 2), prompt_logprobs=[[]])]


@pytest.mark.parametrize(("kind", "said"), [("invalid", InvalidRequest), ("impossible", Impossible)])
async def test_a_refusal_has_its_reason_and_numbers(
    worker: ScriptedWorker, kind: str, said: type[InvalidRequest]
) -> None:
    """For the daemon to pass on."""
    peer = await worker.connect()
    peer.say(generate(1))
    worker.backend.say(1, said("too long", "PROMPT_TOO_LONG", prompt_tokens=9))

    assert await peer.hear() == Refused(1, kind, "too long", "PROMPT_TOO_LONG", {"prompt_tokens": "9"})


async def test_what_fits_into_no_frame_comes_in_several_or_is_refused_alone(
    worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon would hang up on a larger frame, and with that on every stream."""
    monkeypatch.setattr(protocol, "MAX_STEP_BYTES", 1000)
    peer = await worker.connect()
    peer.say(generate(1), generate(2), generate(3))
    worker.backend.say(1, Output("a", [1], logprobs=places(*range(60))))
    worker.backend.say(2, Output("b", [2], logprobs=places(*range(60))))
    worker.backend.say(3, Output("c", [3], prompt_logprobs=places(*range(600))))
    first, second, third = await peer.hear(), await peer.hear(), await peer.hear()

    assert isinstance(first, protocol.Step)
    assert isinstance(second, protocol.Step)
    assert [delta.stream for step in (first, second) for delta in step.deltas] == [1, 2]
    assert isinstance(third, Refused)
    assert (third.stream, third.reason, third.metadata["limit_bytes"]) == (3, "ANSWER_TOO_LARGE", "1000")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while worker.backend.aborted != [3]:
            await asyncio.sleep(0)
