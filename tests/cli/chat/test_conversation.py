from __future__ import annotations

import json
from typing import Any

import pytest

from vllmd.cli.chat.conversation import Conversation, Message


def test_the_sides_alternate() -> None:
    """A question without an answer gives way to the next."""
    conversation = Conversation("be brief")
    conversation.ask("a")
    conversation.ask("b")
    conversation.answer("c")

    assert conversation.prompt() == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]


def test_an_interrupted_answer_stays_if_there_is_any() -> None:
    """It is marked; without a word its question waits on, and an answer that is empty by itself is one."""
    conversation = Conversation()
    conversation.ask("a")
    conversation.answer("", interrupted=True)
    waits = conversation.is_waiting
    conversation.answer("b", interrupted=True)
    conversation.ask("c")
    conversation.answer("")

    assert waits
    assert conversation.messages[1] == Message("assistant", "b", interrupted=True)
    assert conversation.messages[-1] == Message("assistant", "")


def test_asking_again() -> None:
    """The last answer is taken back; where nobody asked there is nothing to ask again."""
    conversation = Conversation()
    assert not conversation.ask_again()
    conversation.ask("a")
    conversation.answer("b")

    assert conversation.ask_again()
    assert conversation.messages == [Message("user", "a")]


def test_what_is_saved_can_be_restored() -> None:
    """By way of JSON, all of it is as it was."""
    conversation = Conversation("be brief", parameters={"seed": 7})
    conversation.ask("a")
    conversation.answer("b", interrupted=True)
    restored = Conversation()

    restored.restore(json.loads(json.dumps(conversation.document())))

    assert restored == conversation


def test_messages_from_elsewhere() -> None:
    """A bare list of messages is a conversation as well."""
    conversation = Conversation()

    conversation.restore([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])

    assert (conversation.system, conversation.messages) == ("s", [Message("user", "u")])


@pytest.mark.parametrize(
    "document",
    [
        None,
        1,
        {},
        {"messages": 1},
        [1],
        [{"role": "user"}],
        [{"role": 1, "content": "x"}],
        {"messages": [], "parameters": 1},
    ],
)
def test_what_is_no_conversation(document: Any) -> None:
    """It is refused, and the one that there is stays as it was."""
    conversation = Conversation("s", [Message("user", "u")])

    with pytest.raises(ValueError, match="messages"):
        conversation.restore(document)

    assert conversation == Conversation("s", [Message("user", "u")])
