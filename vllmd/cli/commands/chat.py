"""The `chat` command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vllmd.cli.chat import history
from vllmd.cli.chat import session as chat_session
from vllmd.cli.chat.conversation import Conversation
from vllmd.cli.chat.line_editor import LineEditor
from vllmd.cli.chat.target import Target, opened, refuse_text
from vllmd.cli.completion import engines_and_models
from vllmd.cli.options import lease as secret
from vllmd.cli.options import model as models
from vllmd.cli.options.inputs import read_stdin, without_line_end
from vllmd.cli.options.routing import Priority
from vllmd.cli.options.sampling import Sampling
from vllmd.cli.options.settings import parse_settings
from vllmd.cli.options.spread import spread
from vllmd.cli.options.wishes import Wishes, parse_adapters
from vllmd.cli.output import generated
from vllmd.cli.session import Format, Output, connect

if TYPE_CHECKING:
    from vllmd.client import Client

_HINT = "MODEL"
_PANEL = "Conversation"


@spread
def chat(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar=_HINT,
            envvar=secret.VARIABLE,
            help="A model to load for as long as this takes, as `load` takes it; or an engine's name, or a lease. "
            f"`-` reads a lease from the first line of stdin. {secret.EXPOSED}",
            autocompletion=engines_and_models,
        ),
    ],
    *,
    system: Annotated[
        str, typer.Option(metavar="TEXT", help="A system message.", rich_help_panel=_PANEL, show_default=False)
    ] = "",
    template_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="A variable of the chat template. May be repeated.", rich_help_panel=_PANEL
        ),
    ] = None,
    lora: Annotated[
        str,
        typer.Option(
            metavar="NAME[=PATH]",
            help="The LoRA adapter to use, by its name; with a path it is loaded with the model.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = "",
    priority: Priority = 0,
    wishes: Wishes,
    sampling: Sampling,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show figures after each answer.")] = False,
    keep_history: Annotated[
        bool,
        typer.Option(
            "--history/--no-history",
            envvar="VLLMD_CHAT_HISTORY",
            help="Keep the lines that you type in $XDG_STATE_HOME/vllmd/chat_history, for you alone.",
        ),
    ] = True,
    output: Output = Format.TEXT,
) -> None:
    """Talk with a model at the terminal, or send it stdin as one message.

    A model that is not loaded is loaded first, and released at the end. Ctrl-C stops an answer, and what came of it
    stays in the conversation; at the prompt it clears the line, and twice on an empty one it ends, as Ctrl-D does.
    /help lists what else there is: the system message, parameters, saving and loading, asking again.

    Where stdin or stdout is no terminal, all of stdin is one message, and the answer is all that is printed.

    Examples:
      vllmd-cli chat Qwen/Qwen3-0.6B
      vllmd-cli chat qwen3-8b-3f2a --system "Be brief." --temperature 0.3
      vllmd-cli chat Qwen/Qwen3-8B --set max_model_len=8192 --verbose
      git diff | vllmd-cli chat Qwen/Qwen3-0.6B --system "Review this."
    """
    source = secret.or_from_stdin(source, _HINT)
    source = models.absolute(source)
    refuse_text(source, _HINT)
    adapter, equals, _ = lora.partition("=")
    options = wishes.options() | {"lora_adapters": parse_adapters([lora]) if equals else {}}
    parameters = sampling.options() | {
        name: value
        for name, value in (
            ("lora", adapter),
            ("priority", priority),
            ("template_args", parse_settings(template_arg or [], "--template-arg")),
        )
        if value
    }
    conversation = Conversation(system, parameters=parameters)
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if at_terminal and output is Format.JSON:
        raise typer.BadParameter("it is for programs: give the message by stdin", param_hint="--output")
    if not at_terminal:
        conversation.ask(_message())
    with connect(context) as client, opened(client, source, options) as target:
        if at_terminal:
            editor = LineEditor(history.default_path() if keep_history else None, chat_session.completions)
            chat_session.ChatSession(client, target, conversation, editor.read, verbose=verbose).run()
        else:
            _answer_once(client, target, conversation, output, verbose=verbose)


def _message() -> str:
    text = without_line_end(read_stdin("stdin"))
    if not text.strip():
        raise typer.BadParameter("there is no message", param_hint="stdin")
    return text


def _answer_once(client: Client, target: Target, conversation: Conversation, output: Format, *, verbose: bool) -> None:
    parameters: dict[str, Any] = conversation.parameters
    with client.generate(target.name, conversation.prompt(), **parameters) as responses:
        generation = generated.show(responses, output)
    if verbose:
        generated.print_summary(generation)
