"""A conversation with a model: what was said, and with which parameters. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """What one side said."""

    role: str
    content: str
    interrupted: bool = False
    """True of an answer that ended before its end: by Ctrl-C, or with the engine."""


@dataclasses.dataclass(slots=True)
class Conversation:
    """What was said so far."""

    system: str = ""
    messages: list[Message] = dataclasses.field(default_factory=list)
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the requests are sent with, as the client names it."""

    @property
    def is_waiting(self) -> bool:
        """True if the last message is a question without an answer."""
        return bool(self.messages) and self.messages[-1].role == "user"

    def ask(self, text: str) -> None:
        """Add a question; it takes the place of one that was not answered, as templates want the sides to alternate."""
        if self.is_waiting:
            self.messages.pop()
        self.messages.append(Message("user", text))

    def answer(self, text: str, *, interrupted: bool = False) -> None:
        """Add an answer; an interrupted one without a word is none."""
        if text or not interrupted:
            self.messages.append(Message("assistant", text, interrupted))

    def ask_again(self) -> bool:
        """Take back the last answer, so that its question waits; false if there is no question."""
        while self.messages and not self.is_waiting:
            if self.messages[-1].role != "assistant":
                return False
            self.messages.pop()
        return self.is_waiting

    def clear(self) -> None:
        """Forget what was said; the system message and the parameters stay."""
        self.messages.clear()

    def prompt(self) -> list[dict[str, str]]:
        """List the messages as a model gets them."""
        opening = [{"role": "system", "content": self.system}] if self.system else []
        return [*opening, *({"role": one.role, "content": one.content} for one in self.messages)]

    def document(self) -> dict[str, Any]:
        """Make what is saved of it: the system message is the first of the messages, as elsewhere."""
        opening: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        return {"messages": [*opening, *map(_saved, self.messages)], "parameters": self.parameters}

    def restore(self, document: Any) -> None:
        """Become what was saved, or a list of messages from elsewhere.

        Raises:
            ValueError: it is no conversation; this one is as it was.
        """
        content = document if isinstance(document, Mapping) else {"messages": document}
        messages, parameters = content.get("messages"), content.get("parameters", {})
        if not isinstance(messages, list) or not isinstance(parameters, dict):
            raise ValueError("it has no list of `messages`")
        restored = [_restored(one) for one in messages]
        system = restored.pop(0).content if restored and restored[0].role == "system" else ""
        self.system, self.messages, self.parameters = system, restored, dict(parameters)


def _saved(message: Message) -> dict[str, Any]:
    marked = {"interrupted": True} if message.interrupted else {}
    return {"role": message.role, "content": message.content, **marked}


def _restored(found: Any) -> Message:
    if not isinstance(found, Mapping):
        raise ValueError("one of its messages is no object")
    role, content = found.get("role"), found.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError("one of its messages has no `role` and `content` that are text")
    return Message(role, content, found.get("interrupted") is True)
