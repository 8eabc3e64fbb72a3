"""How far a load is, on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vllmd.cli import human, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from vllmd.v1.engine_pb2 import LoadProgress

Show = Callable[["LoadProgress"], None]


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


def _line_printer(console: Console) -> Show:
    """Print a line when something other than the time has changed."""
    last: tuple[str, str] | None = None

    def show(progress: LoadProgress) -> None:
        nonlocal last
        now = (describe(progress), percent(progress))
        if now != last:
            last = now
            elapsed = human.duration(progress.elapsed.ToTimedelta().total_seconds())
            console.print(f"{elapsed:>6}  {' '.join(now).rstrip()}")

    return show


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
                elapsed=human.duration(int(update.elapsed.ToTimedelta().total_seconds())),
            )

        yield show
