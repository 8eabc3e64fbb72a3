"""The `engines` command."""

from __future__ import annotations

from typing import Annotated

import typer

from vllmd.cli import terminal
from vllmd.cli.completion import engine_names
from vllmd.cli.output.engine_table import NO_ENGINES
from vllmd.cli.output.gpu_names import gpus_of
from vllmd.cli.session import QUICK_SECONDS, Format, Output, connect


def engines(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="ENGINE", help="An engine's name, as the list shows it.", autocompletion=engine_names),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """List the engines, those that ended a while ago included; or show everything about one.

    Examples:
      vllmd-cli engines
      vllmd-cli engines qwen3-8b-3f2a
      vllmd-cli engines -o json | jq -r '.engines[].name'
    """
    if name is None:
        _list(context, output)
    else:
        _show(context, name, output)


def _list(context: typer.Context, output: Format) -> None:
    with connect(context) as client:
        found = client.engines(timeout=QUICK_SECONDS)
    if output is Format.JSON:
        from vllmd.v1.engine_service_pb2 import ListEnginesResponse

        terminal.json_document(ListEnginesResponse(engines=found))
    elif found:
        from vllmd.cli.output.engine_table import print_engines

        print_engines(terminal.stdout(), found)
    else:
        print(NO_ENGINES)


def _show(context: typer.Context, name: str, output: Format) -> None:
    with connect(context) as client:
        engine = client.engine(name, timeout=QUICK_SECONDS)
        if output is Format.JSON:
            from vllmd.v1.engine_service_pb2 import GetEngineResponse

            terminal.json_document(GetEngineResponse(engine=engine))
        else:
            from vllmd.cli.output.engine_page import print_engine

            print_engine(terminal.stdout(), engine, gpus_of(client))
