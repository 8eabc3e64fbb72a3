"""What to go on from: text, token ids or a conversation, from an argument, stdin or a file."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vllmd.cli.options.inputs import read_file, read_json, read_piped, without_line_end
from vllmd.cli.options.settings import parse_settings

if TYPE_CHECKING:
    from vllmd.v1.generation_pb2 import Prompt

HINT = "PROMPT"

_PANEL = "Conversation"
_TOKEN_ID = re.compile(r"\d{1,10}")


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=_PANEL, show_default=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A prompt as it was typed, less the prompt itself."""

    file: Annotated[
        pathlib.Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Read the prompt from this file.", show_default=False),
    ] = None
    token_ids: Annotated[
        bool, typer.Option("--token-ids", help="The prompt is token ids, apart by spaces or commas.")
    ] = False
    chat: Annotated[bool, _option("--chat", help="Send the prompt as a user's message.")] = False
    system: Annotated[str | None, _option(metavar="TEXT", help="A system message; implies --chat.")] = None
    messages: Annotated[
        pathlib.Path | None,
        _option(metavar="FILE", help="Send these messages, a list in OpenAI's form or what `chat` saved."),
    ] = None
    continue_final_message: Annotated[
        bool, _option("--continue-final-message", help="Go on with the last message instead of beginning an answer.")
    ] = False
    template_arg: Annotated[
        list[str] | None,
        _option(metavar="KEY=VALUE", help="A variable of the chat template; implies --chat. May be repeated."),
    ] = None
    tools: Annotated[
        pathlib.Path | None,
        _option(metavar="FILE", help="Tools that the template tells the model of, a list in OpenAI's form."),
    ] = None

    def prompt(self, argument: str | None, missing: str) -> Prompt:
        """Make the prompt of what was typed, or of stdin; *missing* is what to say where nothing is there.

        Raises:
            typer.BadParameter: there is none, or there are several, or it can't be read.
        """
        if self.messages is None:
            return self.of_text(self._text(argument, missing))
        if argument is not None or self.file is not None:
            raise typer.BadParameter("it can't be given together with a prompt", param_hint="--messages")
        return self.of_messages(messages_of(read_json(self.messages, "--messages"), "--messages"))

    def of_text(self, text: str) -> Prompt:
        """Make a prompt of its text."""
        from vllmd.v1.generation_pb2 import Prompt, TokenPrompt

        if self.token_ids:
            if self._is_chat:
                raise typer.BadParameter("a conversation has no token ids", param_hint="--token-ids")
            return Prompt(tokens=TokenPrompt(token_ids=parse_token_ids(text, HINT)))
        return self.of_messages([{"role": "user", "content": text}]) if self._is_chat else Prompt(text=text)

    def of_messages(self, messages: list[dict[str, Any]]) -> Prompt:
        """Make a prompt of a conversation."""
        from vllmd.client import chat_prompt

        opening = [] if self.system is None else [{"role": "system", "content": self.system}]
        try:
            return chat_prompt(
                [*opening, *messages],
                template_args=parse_settings(self.template_arg or [], "--template-arg"),
                continue_final_message=self.continue_final_message,
                tools=_list_of_objects(read_json(self.tools, "--tools"), "--tools") if self.tools else (),
            )
        except (TypeError, ValueError) as error:
            raise typer.BadParameter(str(error), param_hint="--messages") from None

    @property
    def _is_chat(self) -> bool:
        said = (self.system, self.template_arg or None, self.tools)
        return self.chat or self.continue_final_message or any(one is not None for one in said)

    def _text(self, argument: str | None, missing: str) -> str:
        if self.file is not None:
            if argument is not None:
                raise typer.BadParameter("it can't be given together with a prompt", param_hint="--file")
            return without_line_end(read_file(self.file, "--file"))
        if argument not in (None, "-"):
            return argument or ""
        return without_line_end(read_piped(HINT, missing, asked=argument is not None))


def parse_token_ids(text: str, hint: str) -> list[int]:
    """Read token ids, apart by spaces, line ends or commas, in brackets or not."""
    words = text.strip().removeprefix("[").removesuffix("]").replace(",", " ").split()
    wrong = next((word for word in words if not _TOKEN_ID.fullmatch(word) or int(word) >= 2**31), None)
    if wrong is not None or not words:
        what = f"{wrong[:40]!r} is no token id" if wrong is not None else "there are no token ids"
        raise typer.BadParameter(what, param_hint=hint)
    return [int(word) for word in words]


def messages_of(content: Any, hint: str) -> list[dict[str, Any]]:
    """Take the messages out of a list, or of an object that has them as `messages`, as a chat saves it.

    A chat marks answers that were stopped, which is nothing to a model.
    """
    messages = content.get("messages") if isinstance(content, dict) else content
    if not messages:
        raise typer.BadParameter("there are no messages", param_hint=hint)
    found = _list_of_objects(messages, hint)
    return [{name: value for name, value in one.items() if name != "interrupted"} for one in found]


def _list_of_objects(content: Any, hint: str) -> list[dict[str, Any]]:
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise typer.BadParameter("it is no list of JSON objects", param_hint=hint)
    return content
