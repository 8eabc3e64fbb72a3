from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, Hang
from tests.fakes.terminal import CTRL_C, at_terminal
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.engine_pb2 import Failure


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts"
    path.write_text("one\n\ntwo\nthree\n")
    return path


def served(index: int, *texts: str) -> pb.GenerateBatchResponse:
    generated = pb.Generated(
        completions=[pb.Completion(text=text) for text in texts],
        usage=generation_pb2.Usage(prompt_tokens=2, completion_tokens=3),
    )
    return pb.GenerateBatchResponse(prompt_index=index, generated=generated)


def failed(index: int) -> pb.GenerateBatchResponse:
    failure = Failure(reason="PROMPT_TOO_LONG", message="the prompt has 9 tokens")
    return pb.GenerateBatchResponse(prompt_index=index, failure=failure)


def prompts(daemon: FakeDaemon) -> Any:
    (request,) = daemon.requests
    return [MessageToDict(one, preserving_proto_field_name=True) for one in request.prompts]


def test_one_prompt_a_line(daemon: FakeDaemon, run: Run, file: Path) -> None:
    """Empty lines are none, and results come in the order of the prompts."""
    daemon.batch = [served(2, "c"), served(0, "a\n"), served(1, "b1", "b2")]

    result = run("generate", "e", "--batch", str(file), "--max-tokens", "3", "--priority", "1")

    assert result.exit_code == 0
    assert prompts(daemon) == [{"text": "one"}, {"text": "two"}, {"text": "three"}]
    assert (daemon.requests[0].sampling_params.max_tokens, daemon.requests[0].priority) == (3, 1)
    assert result.stdout == "── [0] one\na\n── [1, 1 of 2] two\nb1\n── [1, 2 of 2] two\nb2\n── [2] three\nc\n"
    assert "3 of 3 done · 9 tokens (6 in the prompts) · total" in result.stderr


def test_json_lines(daemon: FakeDaemon, run: Run) -> None:
    """Text, messages and token ids, each as it is."""
    lines = [
        {"prompt": "one"},
        {"messages": [{"role": "user", "content": "two"}]},
        {"token_ids": [3]},
    ]

    run("generate", "e", "--batch", "-", stdin="".join(json.dumps(line) + "\n" for line in lines))

    assert prompts(daemon) == [
        {"text": "one"},
        {"chat": {"messages": [{"role": "user", "content": "two"}]}},
        {"tokens": {"token_ids": [3]}},
    ]


def test_a_conversation_of_each_prompt(daemon: FakeDaemon, run: Run, file: Path) -> None:
    """With a system message and variables of the template."""
    run("generate", "e", "--batch", str(file), "--system", "s", "--template-arg", "x=1")

    assert prompts(daemon)[0] == {
        "chat": {
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "one"}],
            "template_args": {"x": 1.0},
        }
    }


def test_programs_get_results_as_they_are_complete(daemon: FakeDaemon, run: Run, file: Path) -> None:
    """A line each, failures included."""
    daemon.batch = [served(2, "c"), failed(0), served(1, "b")]

    result = run("generate", "e", "--batch", str(file), "-o", "json", "-q")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["prompt_index"] for line in lines] == [2, 0, 1]
    assert lines[1]["failure"]["reason"] == "PROMPT_TOO_LONG"
    assert (result.exit_code, result.stderr) == (1, "")


def test_a_prompt_that_fails_is_told(daemon: FakeDaemon, run: Run, file: Path) -> None:
    """On stderr, with its number; the others are served, and the exit status tells."""
    daemon.batch = [failed(1), served(2, "c"), served(0, "a")]

    result = run("generate", "e", "--batch", str(file))

    assert result.exit_code == 1
    assert result.stdout == "── [0] one\na\n── [2] three\nc\n"
    assert result.stderr.startswith("[1] Error: the prompt has 9 tokens (PROMPT_TOO_LONG)\n2 of 3 done · 1 failed")


def test_ctrl_c_keeps_what_is_complete(daemon: FakeDaemon, file: Path) -> None:
    """Also what waited for its turn, and says how many had no answer."""
    daemon.batch = [served(2, "c"), served(0, "a"), Hang()]
    with at_terminal("generate", "e", "--batch", str(file), VLLMD_ADDRESS=daemon.target) as terminal:
        terminal.until("── [0] one\na\n")
        assert daemon.arrived.acquire(timeout=20)
        terminal.press(CTRL_C)
        status, text = terminal.end()

    assert status == 130
    assert "── [2] three\nc\n2 of 3 done · 1 without an answer" in text
    assert daemon.cancelled.wait(5)


def test_a_title_is_one_line(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """Of what a prompt begins with, without what could command a terminal."""
    daemon.batch = [served(0, "a")]
    line = json.dumps({"prompt": "a\x1b[2J\nb" + "c" * 100})

    out = run("generate", "e", "--batch", "-", stdin=line).stdout

    assert out.splitlines()[0] == "── [0] a b" + "c" * 56 + "…"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            '{"prompt": "one"}\n{"prompt": "two", "max_tokens": 3}',
            [],
            ":2: there is no `max_tokens`: a line has `prompt`, `messages` or `token_ids`",
        ),
        ("", [], "has no prompts"),
        ("\n \n", [], "has no prompts"),
        ('{"prompt": "x"}\n{', [], ":2 is no JSON"),
        ('{"prompt": "x"}\n7', [], ":2 is no JSON object"),
        ('{"text": "x", "prompt": "y"}', [], ":1 has not one of"),
        ('{"x": "y"}', [], ":1 has not one of"),
        ('{"prompt": 1}', [], ":1: `prompt` is of another type"),
        ('{"token_ids": ["x"]}', [], ":1: `token_ids` is of another type"),
        ('{"messages": []}', [], "there are no messages"),
        ("x", ["a prompt"], "together with another prompt"),
    ],
)
def test_misuse(daemon: FakeDaemon, run: Run, file: Path, content: str, options: list[str], message: str) -> None:
    """It is refused before anything is sent, by the line where it is one's fault."""
    file.write_text(content)

    result = run("generate", "engines/e", *options, "--batch", str(file))

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())
    assert daemon.requests == []
