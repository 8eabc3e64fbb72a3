"""The `logs` command."""

from __future__ import annotations

from typing import Annotated

import typer

from vllmd.cli import terminal
from vllmd.cli.completion import engine_names
from vllmd.cli.session import Format, Output, connect


def logs(
    context: typer.Context,
    engine: Annotated[
        str,
        typer.Argument(metavar="ENGINE", help="An engine's name, as `status` shows it.", autocompletion=engine_names),
    ],
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10000, help="How many of the last lines to begin with.")
    ] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until the engine has ended or Ctrl-C.")
    ] = False,
    output: Output = Format.TEXT,
) -> None:
    """Show an engine's log, vLLM's own output included.

    Examples:
      vllmd-cli logs qwen3-8b-3f2a -n 20
      vllmd-cli logs qwen3-8b-3f2a -f | grep WARNING
    """
    from vllmd.v1.host_service_pb2 import TailLogsResponse

    with connect(context) as client, client.logs(engine, lines=lines, follow=follow) as stream:
        for line in stream:
            if output is Format.JSON:
                terminal.json_line(TailLogsResponse(lines=[line]))
            else:
                terminal.write(f"{line}\n")
