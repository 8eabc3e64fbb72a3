"""The `generate` command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vllmd.cli import human, sampling, terminal
from vllmd.cli import lease as secret
from vllmd.cli.completion import engine_names
from vllmd.cli.session import Format, Output, connect
from vllmd.cli.settings import parse_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllmd.client import Client, Generation, Prompt
    from vllmd.v1.engine_service_pb2 import GenerateResponse

_CHAT = "Conversation"

# Only the last response says how it ended: the lines of all the tokens before would each be three times as long
# with FINISH_REASON_UNSPECIFIED in it. `text` stays even where it is empty, for `jq -j .text`.
_OF_THE_END = ("finish_reason", "stop_reason")


def generate(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="ENGINE_OR_LEASE",
            envvar=secret.VARIABLE,
            help="An engine's name, as `status` shows it, or a lease, as `load` printed it; `-` reads that from the "
            f"first line of stdin. {secret.EXPOSED}",
            autocompletion=engine_names,
        ),
    ],
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to go on from; `-` reads it from stdin.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Send the prompt as a user's message.", rich_help_panel=_CHAT)
    ] = False,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A system message; implies --chat.", rich_help_panel=_CHAT)
    ] = None,
    template_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="A variable of the chat template; implies --chat. May be repeated.",
            rich_help_panel=_CHAT,
        ),
    ] = None,
    max_tokens: sampling.MaxTokens = None,
    min_tokens: sampling.MinTokens = None,
    temperature: sampling.Temperature = None,
    top_p: sampling.TopP = None,
    top_k: sampling.TopK = None,
    min_p: sampling.MinP = None,
    presence_penalty: sampling.PresencePenalty = None,
    frequency_penalty: sampling.FrequencyPenalty = None,
    repetition_penalty: sampling.RepetitionPenalty = None,
    seed: sampling.Seed = None,
    stop: sampling.Stop = None,
    stop_token_ids: sampling.StopTokenIds = None,
    ignore_eos: sampling.IgnoreEos = False,
    keep_special_tokens: sampling.KeepSpecialTokens = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out the summary on stderr.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Generate from a prompt and stream the result.

    Without PROMPT it is read from stdin; one line end at its end is left out. Ctrl-C aborts the request.

    Examples:
      vllmd-cli generate qwen3-8b-3f2a "Once upon a time" --max-tokens 64
      vllmd-cli generate qwen3-8b-3f2a --system "Be brief." "Who are you?"
      git diff | vllmd-cli generate --chat --temperature 0   # with VLLMD_LEASE in the environment
      vllmd-cli generate "Once upon a time"   # likewise; what can be no name is the prompt then
      vllmd-cli generate - "Once upon a time" < lease.txt
    """
    source, prompt = secret.or_prompt(source, prompt)
    source = secret.or_from_stdin(source, "ENGINE_OR_LEASE")
    template_args = parse_settings(template_arg or [], "--template-arg")
    options = {
        "max_tokens": max_tokens,
        "min_tokens": min_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop or None,
        "stop_token_ids": stop_token_ids or None,
        "ignore_eos": ignore_eos or None,
        "skip_special_tokens": False if keep_special_tokens else None,
        "template_args": template_args or None,
    }
    text = _read_prompt(prompt)
    whole = _conversation(text, system) if chat or system is not None or template_args else text
    with connect(context) as client:
        given = {name: value for name, value in options.items() if value is not None}
        generation = _stream(_responses(client, source, whole, given), output)
    if not quiet:
        _summarize(generation)


def _read_prompt(argument: str | None) -> str:
    if argument not in (None, "-"):
        return argument or ""
    if argument is None and sys.stdin.isatty():
        raise typer.BadParameter("give a prompt, or `-` to type one and end it with Ctrl-D", param_hint="PROMPT")
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"stdin is no UTF-8 text: {error}", param_hint="PROMPT") from None
    # `echo` adds one, and to a model it is a token.
    return text.removesuffix("\n").removesuffix("\r")


def _conversation(text: str, system: str | None) -> Prompt:
    opening = [] if system is None else [{"role": "system", "content": system}]
    return [*opening, {"role": "user", "content": text}]


def _responses(client: Client, source: str, prompt: Prompt, options: dict[str, Any]) -> Iterator[GenerateResponse]:
    """Stream from an engine or a lease; a bare name is an engine's, or else a lease's."""
    from vllmd.client import VllmdError, lease_name

    try:
        with client.generate(source, prompt, **options) as responses:
            yield from responses
    except VllmdError as error:
        if error.reason != "ENGINE_NOT_FOUND" or "/" in source:
            raise
        try:
            with client.generate(lease_name(source), prompt, **options) as responses:
                yield from responses
        except VllmdError as second:
            # People mostly mean engines, so that is the name to say is unknown.
            raise error if second.reason == "LEASE_NOT_FOUND" else second from None


def _stream(responses: Iterator[GenerateResponse], output: Format) -> Generation:
    from vllmd.client import Generation

    generation = Generation()
    try:
        for response in responses:
            generation.add(response)
            if output is Format.JSON:
                terminal.json_line(response, without=() if response.finish_reason else _OF_THE_END)
            else:
                terminal.write(response.text)
    finally:
        if output is Format.TEXT and sys.stdout.isatty() and not generation.text.endswith("\n"):
            terminal.write("\n")
    return generation


def _summarize(generation: Generation) -> None:
    from rich.text import Text

    parts = []
    if generation.usage is not None:
        usage = generation.usage
        parts.append(f"{human.count(usage.completion_tokens, 'token')} ({usage.prompt_tokens} in the prompt)")
    if generation.total_time is not None and generation.time_to_first_token is not None:
        parts.append(f"first {human.duration(generation.time_to_first_token)}")
        parts.append(f"total {human.duration(generation.total_time)}")
    if (speed := generation.tokens_per_second) is not None:
        parts.append(f"{speed:.1f} tok/s")
    parts.append(generation.finish_reason or "no end")
    terminal.stderr().print(Text(" · ".join(parts), "dim"))
