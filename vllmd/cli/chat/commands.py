"""What begins with a slash in a chat."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import pathlib
from typing import Any

import typer

from vllmd.cli.chat import parameters as chat_parameters
from vllmd.cli.chat.conversation import Conversation
from vllmd.cli.options.inputs import read_json

HELP = """\
/system TEXT        Set the system message; without TEXT, take it away.
/set NAME VALUE     Set a parameter, such as temperature; `default` for VALUE
                    takes it away. /set verbose on shows figures.
/show               Show the system message, the parameters and what was said.
/regenerate         Ask the last question again.
/clear              Begin anew; the system message and the parameters stay.
/save FILE          Save the conversation as JSON.
/load FILE          Go on with one that was saved.
/reload             Load the model again, after its lease or engine was lost.
/exit               End; so does Ctrl-D, or Ctrl-C twice on an empty line.

\"\"\" begins a message of several lines and ends it; a backslash at the end of a
line goes on as well. Ctrl-C stops an answer: what came of it stays."""

NAMES = ("clear", "exit", "help", "load", "regenerate", "reload", "save", "set", "show", "system")
_ALSO = {"bye": "exit", "quit": "exit", "?": "help"}
_WITHOUT_ARGUMENT = ("clear", "exit", "help", "regenerate", "reload", "show")


class Refused(Exception):
    """A command can't be done; its text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to."""

    text: str = ""
    """To show."""
    ends: bool = False
    asks: bool = False
    """True if the model is to answer the last question."""
    reloads: bool = False
    verbose: bool | None = None
    """Whether figures are to be shown from now on."""


def perform(line: str, conversation: Conversation) -> Outcome:
    """Do what a line says that begins with a slash.

    Raises:
        Refused: there is no such command, or it can't be done.
    """
    word, _, rest = line.strip().removeprefix("/").partition(" ")
    name, argument = _ALSO.get(word, word), rest.strip()
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean /{near[0]}?" if near else "/help lists them."
        raise Refused(f'There is no command /{word}: {hint} To send a message that begins so, put it in """.')
    if argument and name in _WITHOUT_ARGUMENT:
        raise Refused(f"/{name} takes nothing after it.")
    if name in ("save", "load") and not argument:
        raise Refused(f"Name a file: /{name} FILE")
    return _perform(name, argument, conversation)


def _perform(name: str, argument: str, conversation: Conversation) -> Outcome:
    match name:
        case "exit":
            return Outcome(ends=True)
        case "help":
            return Outcome(HELP)
        case "show":
            return Outcome(shown(conversation))
        case "reload":
            return Outcome(reloads=True)
        case "clear":
            conversation.clear()
            return Outcome("Cleared.")
        case "system":
            conversation.system = argument
            return Outcome("The system message is set." if argument else "There is no system message any more.")
        case "regenerate":
            if not conversation.ask_again():
                raise Refused("There is no question to ask again.")
            return Outcome(asks=True)
        case "save":
            return _save(pathlib.Path(argument).expanduser(), conversation)
        case "load":
            return _load(pathlib.Path(argument).expanduser(), conversation)
        case _:
            return _set(argument, conversation)


def shown(conversation: Conversation) -> str:
    """Write a conversation as text."""
    lines = [f"system = {json.dumps(conversation.system, ensure_ascii=False)}"] if conversation.system else []
    lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in conversation.parameters.items()]
    for message in conversation.messages:
        mark = "  [stopped]" if message.interrupted else ""
        lines.append(f"\n{message.role}:{mark}\n{message.content.rstrip()}")
    return "\n".join(lines).strip() or "Nothing was said or set yet."


def _set(argument: str, conversation: Conversation) -> Outcome:
    name, _, text = argument.partition(" ")
    name, text = name.replace("-", "_"), text.strip()
    if not text:
        raise Refused("Say what and to which value: /set NAME VALUE, such as /set temperature 0.2")
    if name == "verbose":
        if text not in ("on", "off"):
            raise Refused("verbose takes on or off.")
        return Outcome(f"verbose is {text}.", verbose=text == "on")
    if text == "default":
        conversation.parameters.pop(name, None)
        return Outcome(f"{name} is what it is by default.")
    try:
        value = chat_parameters.parse(name, text)
    except ValueError as error:
        raise Refused(f"{error}.".replace("?.", "?")) from None
    conversation.parameters[name] = value
    return Outcome(f"{name} is {json.dumps(value, ensure_ascii=False)}.")


def _save(path: pathlib.Path, conversation: Conversation) -> Outcome:
    if path.exists() and not _is_conversation(path):
        raise Refused(f"{path} is something else, and is left as it is.")
    text = json.dumps(conversation.document(), indent=2, ensure_ascii=False) + "\n"
    try:
        # What is said to a model is nobody else's business.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}.") from None
    return Outcome(f"Saved to {path}.")


def _load(path: pathlib.Path, conversation: Conversation) -> Outcome:
    restored = Conversation()
    try:
        restored.restore(_read(path))
        restored.parameters = chat_parameters.check(restored.parameters)
    except ValueError as error:
        raise Refused(f"{path} is no conversation: {error}.") from None
    conversation.restore(restored.document())
    return Outcome(f"Loaded {path}: messages so far {len(conversation.messages)}. /show shows them.")


def _read(path: pathlib.Path) -> Any:
    try:
        return read_json(path.absolute(), "/load")  # a file that is called `-` is one
    except typer.BadParameter as error:
        raise Refused(f"{error.message}.") from None


def _is_conversation(path: pathlib.Path) -> bool:
    try:
        Conversation().restore(_read(path))
    except (Refused, ValueError):
        return False
    return True
