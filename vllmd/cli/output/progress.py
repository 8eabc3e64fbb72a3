"""How far a load is, on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from vllmd.cli import human, terminal
from vllmd.cli.failures import INTERRUPTED
from vllmd.cli.session import Format

if TYPE_CHECKING:
    from rich.console import Console

    from vllmd.client import Client, LoadedModel
    from vllmd.v1.engine_pb2 import LoadProgress

Show = Callable[["LoadProgress"], None]

_LEAST_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def showing_progress(model: str) -> Iterator[Show]:
    """Give what shows a load's progress as long as the block runs."""
    console = terminal.stderr()
    if not console.is_terminal:
        yield _line_printer(console)
        return
    with _bar(console, model) as show:
        yield show


def describe(progress: LoadProgress) -> str:
    """Say what the start is busy with: the daemon's own words, or else the phase."""
    return progress.message or human.phase(progress.phase)


def fraction(progress: LoadProgress) -> float | None:
    """Tell how much of the weights is loaded while they are, where vLLM says so: 0 to 1."""
    loading = progress.phase == progress.PHASE_LOADING_WEIGHTS and progress.HasField("weights_fraction")
    return progress.weights_fraction if loading else None


def percent(progress: LoadProgress) -> str:
    """`42%` of the weights, or nothing."""
    known = fraction(progress)
    return "" if known is None else f"{known:.0%}"


def deserves_line(progress: LoadProgress, last: LoadProgress | None) -> bool:
    """Choose what goes into a log: each phase, and within one what is new, though not each of 51 CUDA graphs."""
    if last is None or progress.phase != last.phase:
        return True
    return _words(progress) != _words(last) and _elapsed(progress) - _elapsed(last) >= _LEAST_SECONDS_BETWEEN_LINES


def _line_printer(console: Console) -> Show:
    last: LoadProgress | None = None

    def show(progress: LoadProgress) -> None:
        nonlocal last
        if deserves_line(progress, last):
            last = progress
            console.print(f"{human.duration(_elapsed(progress)):>6}  {_words(progress)}")

    return show


def _words(progress: LoadProgress) -> str:
    return f"{describe(progress)} {percent(progress)}".rstrip()


def _elapsed(progress: LoadProgress) -> float:
    return progress.elapsed.ToTimedelta().total_seconds()


@contextmanager
def _bar(console: Console, model: str) -> Iterator[Show]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.table import Column

    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[model]}", style="bold", markup=False, table_column=Column(no_wrap=True, ratio=2)),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=3)),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[percent]:>4}", markup=False),
        TextColumn("{task.fields[elapsed]:>6}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task("connecting", total=None, model=model, percent="", elapsed="")

        def show(update: LoadProgress) -> None:
            known = fraction(update)
            progress.update(
                task,
                description=describe(update),
                total=None if known is None else 1.0,  # without a total, the bar pulses
                completed=known or 0.0,
                percent=percent(update),
                elapsed=human.duration(int(_elapsed(update))),
            )

        yield show


def load_model(client: Client, model: str, options: dict[str, Any], output: Format) -> LoadedModel:
    """Load a model and show how far that is; Ctrl-C cancels it and ends the command."""
    try:
        if output is Format.JSON:
            return client.load(model, on_progress=_print_json_progress, **options)
        with showing_progress(model) as show:
            return client.load(model, on_progress=show, **options)
    except KeyboardInterrupt:
        terminal.stderr().print("Cancelled.")
        raise typer.Exit(INTERRUPTED) from None


def _print_json_progress(progress: LoadProgress) -> None:
    from vllmd.v1.engine_service_pb2 import LoadModelResponse

    terminal.json_line(LoadModelResponse(progress=progress))
