"""Engines as a table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vllmd.cli import human, terminal
from vllmd.cli.output.progress import describe, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from vllmd.v1.engine_pb2 import Engine

NO_ENGINES = "No engines. Load a model with: vllmd-cli load MODEL"

_NUMBERS = (">UP", ">LEASES", ">RUN", ">TOK/S")

_SHOWN_FAILURES = 3
_LEAST_WIDTH = 80
"""Of a narrower terminal, a line on a failure takes two."""

_STYLES = {
    "PENDING": "yellow",
    "STARTING": "yellow",
    "READY": "green",
    "STOPPING": "magenta",
    "RECLAIMING": "magenta",
    "STOPPED": "dim",
    "FAILED": "bold red",
}


def print_engines(console: Console, engines: Sequence[Engine]) -> None:
    """Print the engines, and below what the table has no room for."""
    from rich.text import Text

    console.print(_table(console, engines))
    for engine in engines:
        if engine.HasField("failure"):
            message = terminal.printable(engine.failure.message)
            console.print(Text.assemble("\n", (human.short(engine.name), "bold"), f": {message}"))
            console.print(Text(f"More: vllmd-cli engines {human.short(engine.name)}", "dim"))


def print_overview(console: Console, engines: Sequence[Engine]) -> None:
    """Print the engines of now: of those that failed only the last few, and a line each on why."""
    from rich.text import Text

    for part in _overview(console, engines):
        console.print(part, soft_wrap=isinstance(part, Text))


def overview(console: Console, engines: Sequence[Engine]) -> RenderableType:
    """Make what `print_overview` prints."""
    from rich.console import Group

    return Group(*_overview(console, engines))


def _overview(console: Console, engines: Sequence[Engine]) -> list[RenderableType]:
    from rich.text import Text

    shown = without_old_failures(engines)
    failed = [engine for engine in shown if engine.HasField("failure")]
    parts: list[RenderableType] = [_table(console, shown)]
    if failed:
        parts.append("")
    parts += [_failure_line(console, engine) for engine in failed]
    if len(shown) < len(engines):
        parts.append(Text(f"… and {len(engines) - len(shown)} more that failed: vllmd-cli engines", "dim"))
    if failed:
        parts.append(Text("More: vllmd-cli engines ENGINE", "dim"))
    return parts


def without_old_failures(engines: Sequence[Engine]) -> tuple[Engine, ...]:
    """Keep the order, and of the engines that failed those that did so last."""
    failed = [engine for engine in engines if engine.state == engine.STATE_FAILED]
    old = {engine.name for engine in sorted(failed, key=_last_change, reverse=True)[_SHOWN_FAILURES:]}
    return tuple(engine for engine in engines if engine.name not in old)


def state_text(engine: Engine, separator: str = " ") -> Text:
    """Say the state; of a start how far it is, of a failure the reason."""
    from rich.text import Text

    name = human.state(engine.state)
    text = Text.assemble((name, _STYLES.get(name, "")))
    if engine.HasField("failure"):
        text.append(f"{separator}{engine.failure.reason}", "red")
    elif engine.HasField("progress"):
        words = f"{describe(engine.progress)} {percent(engine.progress)}".rstrip()
        text.append(f"{separator}{terminal.printable(words)}")
    return text


def _table(console: Console, engines: Sequence[Engine]) -> Table:
    return _wide(engines) if console.width >= terminal.WIDE else _narrow(engines)


def _failure_line(console: Console, engine: Engine) -> Text:
    from rich.text import Text

    message = " ".join(terminal.printable(engine.failure.message).split())
    line = Text.assemble((human.short(engine.name), "bold"), f": {message}")
    line.truncate(max(console.width, _LEAST_WIDTH), overflow="ellipsis")
    return line


def _last_change(engine: Engine) -> float:
    time = engine.transitions[-1].time if engine.transitions else engine.create_time
    return time.seconds + time.nanos * 1e-9


def _wide(engines: Sequence[Engine]) -> Table:
    from rich.text import Text

    table = terminal.table("ENGINE", "STATE", "MODEL", *_NUMBERS)
    table.columns[0].no_wrap = True  # a name is there to be copied
    for engine in engines:
        table.add_row(
            human.short(engine.name), state_text(engine), Text(terminal.printable(engine.model)), *_numbers(engine)
        )
    return table


def _narrow(engines: Sequence[Engine]) -> Table:
    """Two lines an engine: the model below the name, the details below the state."""
    from rich.text import Text

    table = terminal.table("ENGINE", "STATE", *_NUMBERS)
    table.columns[0].no_wrap = True
    table.columns[0].max_width = max(28, *(len(human.short(engine.name)) for engine in engines))
    for engine in engines:
        names = Text.assemble(human.short(engine.name), "\n", (terminal.printable(engine.model), "dim"))
        names.no_wrap, names.overflow = True, "ellipsis"
        table.add_row(names, state_text(engine, "\n"), *_numbers(engine))
    return table


def _numbers(engine: Engine) -> tuple[str, str, str, str]:
    running = engine.state == engine.STATE_READY
    return (
        _uptime(engine),
        str(engine.lease_count),
        str(engine.running_count) if running else "-",
        f"{engine.tokens_per_second:.0f}" if running else "-",
    )


def _uptime(engine: Engine) -> str:
    """How long it has been ready; of a start, how long it has taken so far."""
    if engine.state in (engine.STATE_RECLAIMING, engine.STATE_STOPPED, engine.STATE_FAILED):
        return "-"
    if engine.state in (engine.STATE_READY, engine.STATE_STOPPING) and engine.HasField("ready_time"):
        return human.duration(max(0, int(time.time() - engine.ready_time.seconds)))
    return human.duration(int(engine.progress.elapsed.ToTimedelta().total_seconds()))
