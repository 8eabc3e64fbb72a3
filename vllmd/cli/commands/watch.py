"""The `watch` command."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli.completion import engine_names
from vllmd.cli.failures import FAILED
from vllmd.cli.output.engine_table import overview, state_text
from vllmd.cli.session import Format, Output, connect

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from vllmd.client import Client
    from vllmd.v1.engine_pb2 import Engine
    from vllmd.v1.engine_service_pb2 import WatchEnginesResponse

_RETURN_SECONDS = 30.0
"""How long a daemon that was there may be away, as for a restart."""


class View:
    """The engines as they are now."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}

    def update(self, response: WatchEnginesResponse, *, is_first: bool) -> list[Engine]:
        """Take in what has changed, of the first response all, and return what is new in it but for figures."""
        if is_first:
            gone = self._engines.keys() - {engine.name for engine in response.engines}
        else:
            gone = set(response.forgotten_engines)
        changed = [engine for engine in response.engines if _shape(engine) != _shape(self._engines.get(engine.name))]
        for name in gone:
            self._engines.pop(name, None)
        self._engines.update((engine.name, engine) for engine in response.engines)
        return changed

    @property
    def engines(self) -> list[Engine]:
        """All of them, the newest first."""
        return sorted(self._engines.values(), key=lambda one: one.create_time.ToNanoseconds(), reverse=True)


def watch(
    context: typer.Context,
    engine: Annotated[
        str,
        typer.Argument(
            metavar="ENGINE",
            help="Watch this one until it has ended. Default: all.",
            show_default=False,
            autocompletion=engine_names,
        ),
    ] = "",
    interval: Annotated[
        str, typer.Option(metavar="TIME", help="Least time between two changes, such as 2s; at most 60s.")
    ] = "0.5s",
    output: Output = Format.TEXT,
) -> None:
    """Watch the engines: a table that stays up to date, until Ctrl-C.

    In a pipe there is a line for each change instead, and with `-o json` the daemon's responses. When a daemon is
    restarted it goes on with the next one. With ENGINE it ends with that; exit status 1 if it failed.

    Examples:
      vllmd-cli watch
      vllmd-cli watch qwen3-8b-3f2a
      vllmd-cli watch -o json | jq -c '.engines[] | [.name, .state]'
    """
    seconds = _seconds(interval)
    view = View()
    with connect(context) as client:
        if output is Format.JSON:
            _json_lines(client, view, engine, seconds)
        elif (console := terminal.stdout()).is_terminal:
            _table(console, client, view, engine, seconds)
        else:
            _lines(client, view, engine, seconds)
    if engine and any(one.state == one.STATE_FAILED for one in view.engines):
        raise typer.Exit(FAILED)


def _seconds(text: str) -> float:
    try:
        seconds = human.parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--interval") from None
    if seconds > 60:
        raise typer.BadParameter(f"{text} is more than 60s", param_hint="--interval")
    return seconds


def _responses(
    client: Client, view: View, engine: str, seconds: float
) -> Iterator[tuple[WatchEnginesResponse, list[Engine]]]:
    """Stream responses, each with what is new in it; a daemon that is restarted is waited for."""
    from vllmd.client import DaemonUnreachable, VllmdError

    while True:
        is_first = True
        try:
            with client.watch_engines(engine, min_interval=seconds) as responses:
                for response in responses:
                    yield response, view.update(response, is_first=is_first)
                    is_first = False
            return
        except VllmdError as error:
            lost = isinstance(error, DaemonUnreachable) and error.was_there
            # It was there, or has said that another will be.
            if is_first or not (lost or error.reason == "UPGRADING"):
                raise
        client.wait_until_ready(_RETURN_SECONDS)


def _json_lines(client: Client, view: View, engine: str, seconds: float) -> None:
    for response, _ in _responses(client, view, engine, seconds):
        terminal.json_line(response)


def _lines(client: Client, view: View, engine: str, seconds: float) -> None:
    for response, changed in _responses(client, view, engine, seconds):
        for one in changed:
            terminal.write(_line(one))
        for name in response.forgotten_engines:
            terminal.write(f"{_now()}  {human.short(name)}  is listed no longer\n")


def _line(engine: Engine) -> str:
    return f"{_now()}  {human.short(engine.name)}  {state_text(engine)}  {terminal.printable(engine.model)}\n"


def _table(console: Console, client: Client, view: View, engine: str, seconds: float) -> None:
    from rich.live import Live

    def shown() -> RenderableType:
        return (
            overview(console, view.engines) if view.engines else "No engines. Load a model with: vllmd-cli load MODEL"
        )

    # It is drawn anew without a change as well, for the times in it.
    with Live(get_renderable=shown, console=console, refresh_per_second=2) as live:
        for _ in _responses(client, view, engine, seconds):
            live.refresh()


def _shape(engine: Engine | None) -> object:
    """What of an engine is no mere figure."""
    if engine is None:
        return None
    return engine.state, engine.progress.phase, engine.progress.message, engine.failure.reason


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
