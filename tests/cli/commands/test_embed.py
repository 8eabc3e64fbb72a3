from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, Refusal
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import Failure


def vector(index: int, *values: float) -> pb.EmbedResponse:
    return pb.EmbedResponse(input_index=index, embedding=pb.Embedding(values=values, prompt_tokens=3))


def texts(daemon: FakeDaemon) -> list[str]:
    return [one.text for one in daemon.requests[-1].inputs]


def test_vectors_for_people(daemon: FakeDaemon, run: Run) -> None:
    """In the order of the texts, as much of each as fits 80 columns."""
    daemon.embed = [vector(1, 1, 2, 3, 4, 5), vector(0, -0.5, 0.25)]

    result = run("embed", "e", "a cat", "a very long text " * 20, COLUMNS="80")

    assert texts(daemon)[0] == "a cat"
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1] == ["0", "3", "2", "-0.5000", "+0.2500", "a", "cat"]
    assert lines[2][:7] == ["1", "3", "5", "+1.0000", "+2.0000", "+3.0000", "…"]
    assert len(lines) == 3
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stderr.startswith("2 of 2 done")


def test_vectors_for_programs(daemon: FakeDaemon, run: Run) -> None:
    """All of each, a line as it comes."""
    daemon.embed = [vector(1, 1, 2), vector(0, 3, 4)]

    lines = [json.loads(line) for line in run("embed", "e", "a", "b", "-o", "json", "-q").stdout.splitlines()]

    assert [(line["input_index"], line["embedding"]["values"]) for line in lines] == [(1, [1, 2]), (0, [3, 4])]


def test_options(daemon: FakeDaemon, run: Run) -> None:
    """What is given is sent, and what is not given is not."""
    daemon.embed = [vector(0, 1)]
    run("embed", "e", "a")
    plain = daemon.requests[-1]
    run("embed", "e", "a", "--dimensions", "4", "--no-normalize", "--truncate-prompt-tokens", "7", "--priority", "2")

    sent = daemon.requests[-1]
    assert [field.name for field, _ in plain.ListFields()] == ["engine", "inputs"]
    assert (sent.dimensions, sent.normalize, sent.truncate_prompt_tokens, sent.priority) == (4, False, 7, 2)


def test_where_texts_come_from(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """All of stdin is one; a file has one a line."""
    path = tmp_path / "texts"
    path.write_text("one\ntwo\n")

    run("embed", "e", stdin="two\nlines\n")
    assert texts(daemon) == ["two\nlines"]
    run("embed", "e", "--batch", str(path))
    assert texts(daemon) == ["one", "two"]
    assert run("embed", "e", "x", "--batch", str(path)).exit_code == 2


def test_a_text_without_a_vector(daemon: FakeDaemon, run: Run) -> None:
    """It is told on stderr and by the exit status; the others are shown."""
    daemon.embed = [
        pb.EmbedResponse(input_index=0, failure=Failure(reason="PROMPT_TOO_LONG", message="9 tokens")),
        vector(1, 1),
    ]

    result = run("embed", "e", "a", "b")

    assert result.exit_code == 1
    assert result.stderr.startswith("[0] Error: 9 tokens (PROMPT_TOO_LONG)\n1 of 2 done · 1 failed")
    assert "+1.0000" in result.stdout


@pytest.mark.parametrize("reason", ["NOT_AN_EMBEDDING_MODEL", "NOT_A_GENERATING_MODEL"])
def test_the_other_command(daemon: FakeDaemon, run: Run, reason: str) -> None:
    """An engine that can't do this can do the other."""
    refusal = Refusal(reason, "it can't", grpc.StatusCode.FAILED_PRECONDITION)
    daemon.embed, daemon.generate = [refusal], [refusal]

    command, other = ("embed", "generate") if reason == "NOT_AN_EMBEDDING_MODEL" else ("generate", "embed")
    result = run(command, "e", "a")

    assert result.exit_code == 1
    assert f"Try: vllmd-cli {other} ENGINE" in result.stderr
