from __future__ import annotations

import json

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, Hang
from tests.fakes.samples import tokens
from tests.fakes.terminal import CTRL_C, at_terminal
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.generation_pb2 import FINISH_REASON_LENGTH, Logprob, TokenLogprobs


def both() -> list[pb.GenerateResponse]:
    """Two completions of a prompt, as they come: the second has ended before the first."""
    return [
        pb.GenerateResponse(index=1, text="b1 "),
        pb.GenerateResponse(index=0, text="a1 "),
        pb.GenerateResponse(index=1, text="b2", finish_reason=FINISH_REASON_LENGTH),
        pb.GenerateResponse(index=0, text="a2 "),
        pb.GenerateResponse(
            index=0,
            text="a3",
            finish_reason=FINISH_REASON_LENGTH,
            usage=generation_pb2.Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=4),
        ),
    ]


def test_several_completions_come_one_after_the_other(daemon: FakeDaemon, run: Run) -> None:
    """However they are interleaved, each has a heading and is in one piece."""
    daemon.generate = list(both())

    result = run("generate", "e", "hi", "-n", "2")

    assert result.stdout == "── 1 of 2 ──\na1 a2 a3\n── 2 of 2 ──\nb1 b2\n"
    assert result.stderr == "5 tokens (7 in the prompt, 4 of them cached) · length\n"


def test_programs_get_them_as_they_come(daemon: FakeDaemon, run: Run) -> None:
    """Each line says which it is of."""
    daemon.generate = list(both())

    lines = [json.loads(line) for line in run("generate", "e", "hi", "-n", "2", "-o", "json").stdout.splitlines()]

    assert [(line["index"], line["text"]) for line in lines][:3] == [(1, "b1 "), (0, "a1 "), (1, "b2")]


def test_what_was_asked_for_is_told_and_nothing_else(daemon: FakeDaemon, run: Run) -> None:
    """Log probabilities are in the line of their tokens; a line without has no empty list of them."""
    logprobs = [TokenLogprobs(candidates=[Logprob(token_id=1, logprob=-0.5, rank=1, text="Once")])]
    daemon.generate = [pb.GenerateResponse(text="Once", token_ids=[1], logprobs=logprobs), *tokens()[1:]]

    first, second, _ = run("generate", "e", "hi", "--logprobs", "0", "-o", "json").stdout.splitlines()

    assert json.loads(first)["logprobs"][0]["candidates"][0]["logprob"] == -0.5
    assert json.loads(second) == {"text": " upon a", "token_ids": [2, 3]}


def test_what_waited_is_shown_when_it_is_interrupted(daemon: FakeDaemon) -> None:
    """Ctrl-C loses nothing that has come."""
    daemon.generate = [*both()[:2], Hang()]
    with at_terminal("generate", "e", "hi", "-n", "2", VLLMD_ADDRESS=daemon.target) as terminal:
        terminal.until("a1 ")
        terminal.press(CTRL_C)
        status, text = terminal.end()

    assert status == 130
    assert text == "^C\n── 2 of 2 ──\nb1 \n"
