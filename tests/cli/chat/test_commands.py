from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vllmd.cli.chat.commands import NAMES, Outcome, Refused, perform
from vllmd.cli.chat.conversation import Conversation, Message


def talked() -> Conversation:
    return Conversation("be brief", [Message("user", "hi"), Message("assistant", "hello", interrupted=True)])


def test_help_names_every_command() -> None:
    """Whatever there is can be found."""
    text = perform("/help", Conversation()).text

    assert all(f"/{name}" in text for name in NAMES if name != "help")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("/exit", Outcome(ends=True)),
        ("/bye", Outcome(ends=True)),
        ("/reload", Outcome(reloads=True)),
        ("/regenerate", Outcome(asks=True)),
        ("/set verbose on", Outcome("verbose is on.", verbose=True)),
    ],
)
def test_outcomes(line: str, outcome: Outcome) -> None:
    """What the chat has to do is in the outcome."""
    assert perform(line, talked()) == outcome


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/exti", "did you mean /exit?"),
        ("/etc/passwd has what?", "/help lists them"),
        ("/clear all", "/clear takes nothing after it"),
        ("/save", "/save FILE"),
        ("/load /nowhere/x.json", "No such file"),
        ("/save /nowhere/x.json", "No such file"),
        ("/set temperature", "/set NAME VALUE"),
        ("/set temprature 1", "did you mean temperature?"),
        ("/set verbose loudly", "on or off"),
    ],
)
def test_refusals(line: str, message: str) -> None:
    """Each says what would do, and nothing has changed."""
    conversation = talked()

    with pytest.raises(Refused) as refusal:
        perform(line, conversation)

    assert message in str(refusal.value)
    assert conversation == talked()


def test_there_is_nothing_to_ask_again() -> None:
    """Before the first question."""
    with pytest.raises(Refused, match="no question"):
        perform("/regenerate", Conversation())


def test_system_parameters_and_clear() -> None:
    """What was said is forgotten alone."""
    conversation = talked()
    for line in ("/system be kind", "/set temperature 0.5", "/set seed 7", "/set seed default", "/clear"):
        perform(line, conversation)

    assert conversation == Conversation("be kind", [], {"temperature": 0.5})
    assert perform("/show", conversation).text == 'system = "be kind"\ntemperature = 0.5'
    perform("/system", conversation)
    assert conversation.system == ""


def test_a_conversation_in_a_file(tmp_path: Path) -> None:
    """It is for its user alone, can be saved once more, and comes back as it was."""
    path = tmp_path / "chat.json"
    os.umask(os.umask(0))  # whatever the umask is, the mode is no wider than this
    perform(f"/save {path}", talked())
    perform(f"/save {path}", talked())
    restored = Conversation()

    outcome = perform(f"/load {path}", restored)

    assert path.stat().st_mode & 0o777 == 0o600
    assert restored == talked()
    assert "messages so far 2" in outcome.text


def test_another_file_is_left_as_it_is(tmp_path: Path) -> None:
    """What is no conversation is neither written over nor loaded."""
    path = tmp_path / "notes.txt"
    path.write_text("precious")

    with pytest.raises(Refused, match="is left as it is"):
        perform(f"/save {path}", talked())
    with pytest.raises(Refused, match="is no JSON"):
        perform(f"/load {path}", talked())
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}], "parameters": {"colour": 1}}))
    conversation = talked()
    with pytest.raises(Refused, match="no parameter colour"):
        perform(f"/load {path}", conversation)
    assert conversation == talked()


def test_what_was_said_is_shown_with_its_mark() -> None:
    """An answer that was stopped says so."""
    assert perform("/show", talked()).text == ('system = "be brief"\n\nuser:\nhi\n\nassistant:  [stopped]\nhello')
    assert perform("/show", Conversation()).text == "Nothing was said or set yet."
