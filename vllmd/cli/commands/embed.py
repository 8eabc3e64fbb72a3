"""The `embed` command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vllmd.cli import terminal
from vllmd.cli.failures import FAILED
from vllmd.cli.options import lease as secret
from vllmd.cli.options.inputs import read_piped, without_line_end
from vllmd.cli.options.numbers import INT32, within
from vllmd.cli.options.prompts import Given
from vllmd.cli.options.routing import Lora, Priority
from vllmd.cli.options.source import HINT, Source, streaming
from vllmd.cli.output import batch as many
from vllmd.cli.session import Format, Output, connect

if TYPE_CHECKING:
    from vllmd.v1.engine_service_pb2 import Embedding, EmbedResponse
    from vllmd.v1.generation_pb2 import Prompt

_SHOWN = 3
"""Numbers of each vector, for people."""


def embed(
    context: typer.Context,
    source: Source,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="What to make vectors of; default: all of stdin.")
    ] = None,
    batch: many.Batch = None,
    dimensions: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            callback=within(INT32),
            help="Numbers of each vector, where the model lets one choose. Default: all.",
            show_default=False,
        ),
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option(
            "--normalize/--no-normalize",
            help="Scale each vector to length 1, or don't. Default: as the model's configuration says.",
            show_default=False,
        ),
    ] = None,
    truncate_prompt_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            callback=within(INT32),
            help="Keep the first N tokens of each text. Default: one that is too long is refused.",
            show_default=False,
        ),
    ] = None,
    lora: Lora = "",
    priority: Priority = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out the summary on stderr.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Make a vector of each text, with an embedding model.

    People get the beginning of each vector; `-o json` has all of it, a line for each text as they are complete. Exit
    status 1 if there is none of a text.

    Examples:
      vllmd-cli embed bge-small-77aa "a cat" "a dog"
      vllmd-cli embed bge-small-77aa < letter.txt
      vllmd-cli embed bge-small-77aa --batch texts.txt -o json > vectors.jsonl
      vllmd-cli embed bge-small-77aa hi -o json | jq -c .embedding.values
    With VLLMD_LEASE in the environment; what can be no name is a text then:
      echo "a cat" | vllmd-cli embed
    """
    source, texts = secret.or_texts(source, texts or [], context.command_path)
    missing = secret.nothing_beside(source, "text", context.command_path)
    source = secret.or_from_stdin(source, HINT)
    inputs = _inputs(texts, batch, missing)
    options = {"dimensions": dimensions, "normalize": normalize, "truncate_prompt_tokens": truncate_prompt_tokens}
    with connect(context) as client:
        responses = streaming(
            client,
            source,
            lambda name: client.embed(name, inputs, priority=priority, lora=lora, **options),  # type: ignore[arg-type]
        )
        tally = _show(responses, inputs, output)
    if not quiet:
        many.print_tally(tally)
    if tally.served < len(inputs):
        raise typer.Exit(FAILED)


def _inputs(texts: Sequence[str], batch: many.Batch, missing: str) -> list[Prompt]:
    given = Given()
    if batch is not None:
        if texts:
            raise typer.BadParameter("it can't be given together with texts", param_hint=many.HINT)
        return many.read_prompts(batch, given)
    if texts:
        return [given.of_text(text) for text in texts]
    return [given.of_text(without_line_end(read_piped("TEXT", missing, asked=False)))]


def _show(responses: Iterator[EmbedResponse], inputs: Sequence[Prompt], output: Format) -> many.Tally:
    tally = many.Tally(len(inputs))
    vectors: dict[int, Embedding] = {}
    for response in responses:
        if response.HasField("failure"):
            tally.failed += 1
        else:
            tally.served += 1
            tally.prompt_tokens += response.embedding.prompt_tokens
        if output is Format.JSON:
            terminal.json_line(response)
        elif response.HasField("failure"):
            many.print_failure(response.input_index, response.failure)
        else:
            vectors[response.input_index] = response.embedding
    if vectors:
        _print_vectors(vectors, inputs)
    return tally


def _print_vectors(vectors: dict[int, Embedding], inputs: Sequence[Prompt]) -> None:
    from rich.text import Text

    table = terminal.table(">INPUT", ">TOKENS", ">NUMBERS", "VECTOR", "TEXT")
    for index, vector in sorted(vectors.items()):
        beginning = " ".join(f"{value:+.4f}" for value in vector.values[:_SHOWN])
        rest = " …" if len(vector.values) > _SHOWN else ""
        text = Text(many.title(inputs[index]), no_wrap=True, overflow="ellipsis")
        counts = (str(index), str(vector.prompt_tokens), str(len(vector.values)))
        table.add_row(*counts, Text(beginning + rest, no_wrap=True), text)
    terminal.stdout().print(table)
