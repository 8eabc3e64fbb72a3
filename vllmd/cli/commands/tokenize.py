"""The `tokenize` command."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli.options import lease as secret
from vllmd.cli.options.inputs import read_file, read_piped
from vllmd.cli.options.prompts import HINT as PROMPT
from vllmd.cli.options.prompts import Given, parse_token_ids
from vllmd.cli.options.source import HINT, Source, asking
from vllmd.cli.options.spread import spread
from vllmd.cli.session import Format, Output, connect

if TYPE_CHECKING:
    from vllmd.client import Client
    from vllmd.v1.engine_service_pb2 import TokenizeResponse


@spread
def tokenize(
    context: typer.Context,
    source: Source,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to make tokens of; `-` reads it from stdin.")
    ] = None,
    *,
    decode: Annotated[bool, typer.Option("--decode", "-d", help="The other way: make text of token ids.")] = False,
    texts: Annotated[bool, typer.Option("--texts", help="Show each token as text, too.")] = False,
    no_special_tokens: Annotated[
        bool,
        typer.Option(
            "--no-special-tokens",
            help="Leave out what the tokenizer puts around a text; with --decode, all special tokens.",
        ),
    ] = False,
    given: Given,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out the summary on stderr.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Show the tokens of a prompt, as `generate` would make them; or with --decode the text of token ids.

    Without PROMPT it is read from stdin; one line end at its end is left out. Of a conversation the chat template is
    applied first. How many there are, and how many the model takes, is said on stderr.

    Examples:
      vllmd-cli tokenize qwen3-8b-3f2a "Once upon a time"
      vllmd-cli tokenize qwen3-8b-3f2a --texts --system "Be brief." "Who are you?"
      vllmd-cli tokenize qwen3-8b-3f2a -o json < book.txt | jq -c .token_ids
      vllmd-cli tokenize qwen3-8b-3f2a --decode "9707 1879"
    """
    source, prompt = secret.or_prompt(source, prompt, context.command_path)
    missing = secret.nothing_beside(source, "prompt", context.command_path)
    source = secret.or_from_stdin(source, HINT)
    with connect(context) as client:
        if decode:
            _decode(client, source, _ids(prompt, given, missing), output, skip=no_special_tokens)
            return
        whole = given.prompt(prompt, missing)
        special = False if no_special_tokens else None
        answer = asking(
            client,
            source,
            lambda name: client.tokenize(
                name, whole, add_special_tokens=special, return_token_texts=texts or output is Format.JSON
            ),
        )
    if output is Format.JSON:
        terminal.json_document(answer)
        return
    _print(answer, texts=texts)
    if not quiet:
        limit = f" of at most {answer.max_model_len}" if answer.max_model_len else ""
        terminal.stderr().print(f"{human.count(len(answer.token_ids), 'token')}{limit}", style="dim")


def _ids(prompt: str | None, given: Given, missing: str) -> list[int]:
    if given != Given(file=given.file, token_ids=given.token_ids):
        raise typer.BadParameter("it takes token ids, and no conversation", param_hint="--decode")
    if given.file is not None and prompt is not None:
        raise typer.BadParameter("it can't be given together with a prompt", param_hint="--file")
    if given.file is not None:
        prompt = read_file(given.file, "--file")
    elif prompt in (None, "-"):
        prompt = read_piped(PROMPT, missing, asked=prompt is not None)
    return parse_token_ids(prompt or "", PROMPT)


def _decode(client: Client, source: str, token_ids: list[int], output: Format, *, skip: bool) -> None:
    text = asking(client, source, lambda name: client.detokenize(name, token_ids, skip_special_tokens=skip))
    if output is Format.JSON:
        print(json.dumps({"text": text}, ensure_ascii=False))
        return
    terminal.write(text)
    if sys.stdout.isatty() and not text.endswith("\n"):
        terminal.write("\n")


def _print(answer: TokenizeResponse, *, texts: bool) -> None:
    if not texts:
        print(*answer.token_ids)
        return
    table = terminal.table(">ID", "TEXT")
    for token, text in zip(answer.token_ids, answer.token_texts, strict=False):
        # In quotes: much of it is spaces and line ends.
        table.add_row(str(token), json.dumps(text, ensure_ascii=False))
    terminal.stdout().print(table)
