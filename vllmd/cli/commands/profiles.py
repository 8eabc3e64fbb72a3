"""The `profiles` command."""

from __future__ import annotations

from typing import Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli.completion import profiled_models
from vllmd.cli.session import QUICK_SECONDS, Format, Output, connect


def profiles(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Only loads of this model, by the name that it was last loaded by.",
            autocompletion=profiled_models,
            show_default=False,
        ),
    ] = "",
    forget: Annotated[bool, typer.Option("--forget", help="Forget them; the next load measures anew.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """List what earlier loads really took of their fullest GPU, which later plans go by; or forget it.

    There is one for each model, settings, kind of GPU and version of vLLM; the figures are the last load's.

    Examples:
      vllmd-cli profiles
      vllmd-cli profiles Qwen/Qwen3-8B -o json
      vllmd-cli profiles --forget Qwen/Qwen3-8B
    """
    if forget:
        _forget(context, model, output)
    else:
        _list(context, model, output)


def _list(context: typer.Context, model: str, output: Format) -> None:
    with connect(context) as client:
        found = client.profiles(model, timeout=QUICK_SECONDS)
    if output is Format.JSON:
        from vllmd.v1.host_service_pb2 import ListProfilesResponse

        terminal.json_document(ListProfilesResponse(profiles=found))
    elif found:
        from vllmd.cli.output.profile_table import print_profiles

        print_profiles(terminal.stdout(), found)
    else:
        what = f"No load of {model}" if model else "No load"
        print(terminal.printable(f"{what} on a GPU was recorded yet."))


def _forget(context: typer.Context, model: str, output: Format) -> None:
    with connect(context) as client:
        count = client.forget_profiles(model, timeout=QUICK_SECONDS)
    if output is Format.JSON:
        from vllmd.v1.host_service_pb2 import ForgetProfilesResponse

        terminal.json_document(ForgetProfilesResponse(forgotten_count=count))
    else:
        print(f"Forgot {human.count(count, 'profile')}.")
