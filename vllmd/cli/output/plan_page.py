"""A plan for people; it is made from the same object that programs get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vllmd.cli import human, terminal
from vllmd.cli.output.argument_table import Row, print_arguments, setting
from vllmd.cli.output.memory_bar import Bar, print_bars

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Document = Mapping[str, Any]


def print_plan(console: Console, document: Document) -> None:
    """Print what was planned for what, what is on the GPUs, the arguments, and what they come to."""
    from rich.text import Text

    facts = terminal.table("", "")
    facts.show_header = False
    for label, fact in _facts(document):
        facts.add_row(Text(label, "bold"), fact)
    console.print(facts)
    if not document["feasible"]:
        reason, message = document["reason"], terminal.printable(document["message"])
        console.print(Text.assemble("\n", ("Infeasible: ", "bold red"), message, (f" ({reason})", "dim")))
    if document["gpus"]:
        terminal.heading(console, "MEMORY NOW" if document["kv_cache_bytes_per_gpu"] is None else "MEMORY")
        print_bars(console, _bars(document["gpus"]))
    if document["choices"]:
        terminal.heading(console, "ARGUMENTS")
        print_arguments(console, (_row(choice) for choice in document["choices"]))
    if document["kv_cache_tokens"] is not None:
        terminal.heading(console, "WHAT IT HOLDS")
        console.print(_capacity(document))
    if not document["feasible"] and document["remedies"]:
        terminal.heading(console, "WHAT WOULD MAKE IT FIT")
        _print_remedies(console, document["remedies"])
    if document["notes"]:
        terminal.heading(console, "NOTES")
    for note in document["notes"]:
        console.print(f"- {terminal.printable(note)}")


def _facts(document: Document) -> Iterator[tuple[str, str | Text]]:
    model = document["model"]
    yield "model", terminal.printable(model["name"])
    known = ", ".join(_known(model))
    if known:
        yield "", terminal.printable(known)
    yield "GPUs", document["hardware"]
    if document["use_case"]:
        yield "use case", document["use_case"]


def _known(model: Document) -> Iterator[str]:
    if model["architecture"]:
        yield model["architecture"]
    if model["parameters"]:
        yield f"{_short(model['parameters'])} parameters"
    if model["dtype"]:
        yield model["dtype"]
    if model["quantization"]:
        yield f"packed by {model['quantization']}"
    if model["weight_bytes"]:
        yield f"{human.gib(model['weight_bytes'])} in files"
    if model["max_model_len"]:
        yield f"context {model['max_model_len']}"


def _row(choice: Document) -> Row:
    return choice["name"], choice["value"], choice["source"], choice["reason"]


def _bars(gpus: Sequence[Document]) -> list[Bar]:
    names = [f"{'MIG of ' if gpu['mig_parent'] else ''}GPU {gpu['index']}" for gpu in gpus]
    return [Bar(name, gpu["memory"]["total"], gpu["memory"]) for name, gpu in zip(names, gpus, strict=True)]


def _capacity(document: Document) -> str:
    tokens, each = document["kv_cache_tokens"], document["kv_cache_bytes_per_token"]
    length = document["engine_args"].get("max_model_len")
    size = f", {each / 1024:,.0f} KiB each over all layers and GPUs" if each else ""
    concurrency = f"{document['max_concurrency']:.1f}"
    copies = document["engine_args"].get("data_parallel_size", 1)
    each_copy = f"Each of the {copies} copies has a " if copies > 1 else ""
    where = " in each" if copies > 1 else ""
    return (
        f"{each_copy}KV cache of {tokens:,} tokens{size}.\n"
        f"{concurrency} requests of {length} tokens each fit at once{where}."
    )


def _print_remedies(console: Console, remedies: Sequence[Document]) -> None:
    for remedy in remedies:
        flags = " ".join(f"--set {name}={setting(value)}" for name, value in remedy["engine_args"].items())
        console.print(f"- {terminal.printable(remedy['text'])}")
        if flags:
            terminal.print_command(console, f"    {flags}")


def _short(count: int) -> str:
    """`8.0B`, `494M`."""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"
