from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.terminal import at_terminal
from vllmd.v1 import engine_service_pb2 as pb


@pytest.fixture(autouse=True)
def scripted(daemon: FakeDaemon) -> FakeDaemon:
    daemon.tokenize = pb.TokenizeResponse(token_ids=[1, 15, 7], token_texts=["<s>", " hi", "\n"], max_model_len=8192)
    daemon.detokenize = pb.DetokenizeResponse(text="hi \x1b[2J")
    return daemon


def test_token_ids(daemon: FakeDaemon, run: Run) -> None:
    """They are what stdout has, so that they can be piped; how many they are is on stderr."""
    result = run("tokenize", "e", "hi")

    assert (result.stdout, result.stderr) == ("1 15 7\n", "3 tokens of at most 8192\n")
    assert daemon.requests == [pb.TokenizeRequest(engine="engines/e", prompt=daemon.requests[0].prompt)]
    assert daemon.requests[0].prompt.text == "hi"
    assert run("tokenize", "e", "hi", "-q").stderr == ""


def test_tokens_as_text(daemon: FakeDaemon, run: Run) -> None:
    """In quotes, as much of it is spaces and line ends."""
    result = run("tokenize", "e", "hi", "--texts", "--no-special-tokens")

    assert [line.strip().split(maxsplit=1) for line in result.stdout.splitlines()] == [
        ["ID", "TEXT"],
        ["1", '"<s>"'],
        ["15", '" hi"'],
        ["7", '"\\n"'],
    ]
    sent = daemon.requests[0]
    assert sent.return_token_texts
    assert (sent.HasField("add_special_tokens"), sent.add_special_tokens) == (True, False)


def test_a_conversation(daemon: FakeDaemon, run: Run) -> None:
    """As `generate` would send it."""
    run("tokenize", "e", "hi", "--system", "s")

    assert [one.role for one in daemon.requests[0].prompt.chat.messages] == ["system", "user"]


def test_json(daemon: FakeDaemon, run: Run) -> None:
    """All that the daemon says, texts included."""
    found = json.loads(run("tokenize", "e", "hi", "-o", "json").stdout)

    assert found == {"token_ids": [1, 15, 7], "token_texts": ["<s>", " hi", "\n"], "max_model_len": 8192}


def test_text_of_tokens(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """From an argument, stdin or a file, in what form `tokenize` printed them."""
    path = tmp_path / "ids"
    path.write_text("[1, 15]")

    result = run("tokenize", "e", "--decode", "1 15 7")
    run("tokenize", "e", "-d", "--no-special-tokens", stdin="1 15 7\n")
    run("tokenize", "e", "-d", "-f", str(path), "-o", "json")

    assert result.stdout == "hi \x1b[2J"
    assert [list(one.token_ids) for one in daemon.requests] == [[1, 15, 7], [1, 15, 7], [1, 15]]
    assert [one.skip_special_tokens for one in daemon.requests] == [False, True, False]


def test_text_at_a_terminal(daemon: FakeDaemon) -> None:
    """It can't command it."""
    with at_terminal("tokenize", "e", "--decode", "1", VLLMD_ADDRESS=daemon.target) as terminal:
        status, text = terminal.end()

    assert (status, text) == (0, "hi \n")


@pytest.mark.parametrize(
    "options", [["x"], ["1", "--chat"], ["1", "--system", "s"], ["1", "-f", "x"], ["1", "--messages", "x"]]
)
def test_what_is_no_tokens_is_misuse(daemon: FakeDaemon, run: Run, options: list[str]) -> None:
    """Nothing is sent."""
    assert run("tokenize", "e", "--decode", *options).exit_code == 2
    assert daemon.requests == []
