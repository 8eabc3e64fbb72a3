"""The `stop` command."""

from __future__ import annotations

from typing import Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli.completion import living_engines
from vllmd.cli.failures import FAILED
from vllmd.cli.output.gpu_names import gpus_of
from vllmd.cli.output.reclaim import kept_after, print_end, print_gone, unproven
from vllmd.cli.session import Format, Output, connect


def stop(
    context: typer.Context,
    engine: Annotated[
        str,
        typer.Argument(metavar="ENGINE", help="An engine's name, as `status` shows it.", autocompletion=living_engines),
    ],
    force: Annotated[bool, typer.Option("--force", help="Kill it at once, without the grace period.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Stop an engine whatever leases it has, and show what it gave back.

    Returns when its processes are gone and its GPU memory is free. Exit status 1 if that is not proven.

    Examples:
      vllmd-cli stop qwen3-8b-3f2a
      vllmd-cli stop qwen3-8b-3f2a --force
    """
    with connect(context) as client:
        stopped = client.stop(engine, force=force)
        kept = kept_after(client, stopped)
        if output is Format.JSON:
            from vllmd.v1.host_service_pb2 import StopEngineResponse

            terminal.json_document(StopEngineResponse(engine=stopped))
        elif stopped.state:
            print_end(terminal.stdout(), stopped, gpus_of(client))
        else:
            print_gone(terminal.stdout(), f"{human.short(stopped.name)} is not there any more.", kept)
    if unproven(stopped) or kept:
        raise typer.Exit(FAILED)
