"""The `generate` command."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vllmd.cli import terminal
from vllmd.cli.failures import FAILED
from vllmd.cli.options import lease as secret
from vllmd.cli.options.prompts import Given
from vllmd.cli.options.routing import Routing
from vllmd.cli.options.sampling import Returned, Sampling
from vllmd.cli.options.source import HINT, Source, streaming
from vllmd.cli.options.spread import spread
from vllmd.cli.output import batch as many
from vllmd.cli.output import generated
from vllmd.cli.session import Format, Output, connect

if TYPE_CHECKING:
    from vllmd.client import Client
    from vllmd.v1.generation_pb2 import Prompt


@spread
def generate(
    context: typer.Context,
    source: Source,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to go on from; `-` reads it from stdin.")
    ] = None,
    *,
    given: Given,
    batch: many.Batch = None,
    sampling: Sampling,
    returned: Returned,
    routing: Routing,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out the summary on stderr.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Generate from a prompt and stream the result.

    Without PROMPT it is read from stdin; one line end at its end is left out. Ctrl-C aborts the request.

    With --batch, results are printed in the order of the prompts, and with `-o json` as they are complete. Exit
    status 1 if one of them failed.

    Examples:
      vllmd-cli generate qwen3-8b-3f2a "Once upon a time" --max-tokens 64
      vllmd-cli generate qwen3-8b-3f2a --system "Be brief." "Who are you?"
      vllmd-cli generate qwen3-8b-3f2a -f prompt.txt --json-schema person.json
      vllmd-cli generate qwen3-8b-3f2a "A whale is" --choice fish --choice beast
      vllmd-cli generate qwen3-8b-3f2a --batch prompts.jsonl -o json
    With VLLMD_LEASE in the environment; what can be no name is the prompt then:
      git diff | vllmd-cli generate --chat --temperature 0
      vllmd-cli generate "Once upon a time"
    With a lease in a file:
      vllmd-cli generate - "Once upon a time" < lease.txt
    """
    source, prompt = secret.or_prompt(source, prompt, context.command_path)
    missing = secret.nothing_beside(source, "prompt", context.command_path)
    source = secret.or_from_stdin(source, HINT)
    if output is Format.TEXT:
        for option in returned.only_in_json():
            terminal.stderr().print(f"What {option} adds is shown by -o json only.")
    options = sampling.options() | returned.options() | routing.options()
    with connect(context) as client:
        if batch is None:
            _one(client, source, given.prompt(prompt, missing), options, output, quiet)
        else:
            _many(client, source, batch, prompt, given, options, output, quiet)


def _one(client: Client, source: str, prompt: Prompt, options: dict[str, Any], output: Format, quiet: bool) -> None:
    responses = streaming(client, source, lambda name: client.generate(name, prompt, **options))
    generation = generated.show(responses, output, options.get("n", 1))
    if not quiet:
        generated.print_summary(generation)


def _many(
    client: Client,
    source: str,
    batch: pathlib.Path,
    prompt: str | None,
    given: Given,
    options: dict[str, Any],
    output: Format,
    quiet: bool,
) -> None:
    if prompt is not None or given.file is not None or given.messages is not None:
        raise typer.BadParameter("it can't be given together with another prompt", param_hint=many.HINT)
    prompts = many.read_prompts(batch, given)
    responses = streaming(client, source, lambda name: client.generate_batch(name, prompts, **options))
    if many.show_batch(responses, prompts, output, quiet=quiet).served < len(prompts):
        raise typer.Exit(FAILED)
