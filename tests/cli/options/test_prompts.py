from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from google.protobuf.json_format import MessageToDict

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from vllmd.cli.chat.conversation import Conversation
from vllmd.cli.options.prompts import parse_token_ids

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well, "}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def request(daemon: FakeDaemon) -> Any:
    return MessageToDict(daemon.requests[-1], preserving_proto_field_name=True)


def test_a_prompt_from_a_file(daemon: FakeDaemon, run: Run, file: Path) -> None:
    """Less the line end at its end; `-` is stdin."""
    file.write_text("two\nlines\n")

    run("generate", "e", "--file", str(file))
    assert request(daemon)["text"] == "two\nlines"
    run("generate", "e", "-f", "-", stdin="piped\n")
    assert request(daemon)["text"] == "piped"


def test_token_ids(daemon: FakeDaemon, run: Run) -> None:
    """A prompt that is tokenized already."""
    run("generate", "e", "--token-ids", "1 2,3")

    assert request(daemon)["tokens"] == {"token_ids": [1, 2, 3]}


@pytest.mark.parametrize("content", [MESSAGES, {"messages": MESSAGES, "parameters": {}}])
def test_messages_from_a_file(daemon: FakeDaemon, run: Run, file: Path, content: Any) -> None:
    """A list in OpenAI's form, or what a chat has saved; the last may be gone on with."""
    file.write_text(json.dumps(content))

    run("generate", "e", "--messages", str(file), "--continue-final-message", "--system", "s")

    assert request(daemon)["chat"] == {
        "messages": [{"role": "system", "content": "s"}, *MESSAGES],
        "continue_final_message": True,
    }


def test_a_conversation_with_an_answer_that_was_stopped(daemon: FakeDaemon, run: Run, file: Path) -> None:
    """The mark that a chat has saved with it is nothing to a model."""
    conversation = Conversation()
    conversation.ask("hi")
    conversation.answer("Well, ", interrupted=True)
    file.write_text(json.dumps(conversation.document()))

    result = run("generate", "e", "--messages", str(file))

    assert result.exit_code == 0
    assert request(daemon)["chat"] == {"messages": MESSAGES}


def test_tools(daemon: FakeDaemon, run: Run, file: Path) -> None:
    """They make the prompt a user's message."""
    tool = {"type": "function", "function": {"name": "f"}}
    file.write_text(json.dumps([tool]))

    run("generate", "e", "hi", "--tools", str(file))

    assert request(daemon)["chat"] == {"messages": [MESSAGES[0]], "tools": [tool]}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("[]", ["--messages", "FILE"], "there are no messages"),
        ('["x"]', ["--messages", "FILE"], "no list of JSON objects"),
        ('[{"role": "user", "colour": "red"}]', ["--messages", "FILE"], "a message has no colour"),
        ("[{}]", ["--messages", "FILE", "hi"], "together with a prompt"),
        ("x", ["--file", "FILE", "hi"], "together with a prompt"),
        ("x", ["--tools", "FILE", "hi"], "is no JSON"),
        ("x", ["--token-ids", "1 x"], "'x' is no token id"),
        ("x", ["--token-ids", "--chat", "1"], "a conversation has no token ids"),
    ],
)
def test_misuse(daemon: FakeDaemon, run: Run, file: Path, content: str, options: list[str], message: str) -> None:
    """It is refused before anything is sent, with the reason."""
    file.write_text(content)

    result = run("generate", "e", *(str(file) if option == "FILE" else option for option in options))

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())
    assert daemon.requests == []


@pytest.mark.parametrize("text", ["1 2 3", "[1, 2, 3]", "1,2,3\n", " 1\n2\n3 "])
def test_spellings_of_token_ids(text: str) -> None:
    """As `tokenize` prints them, and as JSON has them."""
    assert parse_token_ids(text, "X") == [1, 2, 3]


@pytest.mark.parametrize("text", ["", "[]", "-1", "1.5", "99999999999", "2147483648", "²"])
def test_what_is_no_token_id(text: str) -> None:
    """Nothing at all, and what no message can carry."""
    with pytest.raises(typer.BadParameter):
        parse_token_ids(text, "X")
