"""The `load` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli.failures import FAILED
from vllmd.cli.options import model as models
from vllmd.cli.options.lease import VARIABLE
from vllmd.cli.options.spread import spread
from vllmd.cli.options.wishes import Adapters, Wishes, parse_adapters
from vllmd.cli.output.gpu_names import gpus_of
from vllmd.cli.output.progress import load_model
from vllmd.cli.output.reclaim import print_released, unproven
from vllmd.cli.session import Format, Output, connect

if TYPE_CHECKING:
    from vllmd.client import Client, LoadedModel


@spread
def load(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=models.HELP)],
    *,
    wishes: Wishes,
    lora: Adapters = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long the lease lasts when it is not used, such as 90s, 10m or 1h30m. Default: 5m.",
            show_default=False,
        ),
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Keep the model until Ctrl-C, then release it.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Load a model, or share the engine that has it, and print the lease that keeps it loaded.

    Whoever knows the lease can use it and end it; `generate` and `release` take it from VLLMD_LEASE as well.
    Ctrl-C while it loads cancels the load.

    Examples:
      vllmd-cli load Qwen/Qwen3-8B
      vllmd-cli load Qwen/Qwen3-8B --set max_model_len=8192 --ttl 1h
      vllmd-cli load Qwen/Qwen3-8B --use-case production
      vllmd-cli load ./my-model --no-auto-config --hold
      vllmd-cli load Qwen/Qwen3-8B --lora sql=/models/qwen3-8b-sql
      export VLLMD_LEASE=$(vllmd-cli load Qwen/Qwen3-8B -o json |
        tail -n 1 | jq -r .loaded.lease.name)
    """
    options = wishes.options() | {"lease_ttl": _seconds(ttl), "hold": hold, "lora_adapters": parse_adapters(lora or [])}
    with connect(context) as client:
        loaded = load_model(client, models.absolute(model), options, output)
        if hold:
            _hold(client, loaded, output)
        else:
            _print_result(loaded, output, hold=False)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return human.parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ttl") from None


def _hold(client: Client, loaded: LoadedModel, output: Format) -> None:
    from vllmd.v1.engine_service_pb2 import ReleaseResponse

    try:
        _print_result(loaded, output, hold=True)
        loaded.wait()
    except KeyboardInterrupt:
        terminal.stderr().print("Releasing …")
        engine = loaded.release()
        if output is Format.JSON:
            terminal.json_line(ReleaseResponse(engine=engine))
        else:
            print_released(engine, gpus_of(client))
        if unproven(engine):
            raise typer.Exit(FAILED) from None
    else:
        terminal.stderr().print("The lease was ended from elsewhere.")


def _print_result(loaded: LoadedModel, output: Format, *, hold: bool) -> None:
    if output is Format.JSON:
        _print_json(loaded)
    else:
        _print_loaded(loaded, hold=hold)


def _print_loaded(loaded: LoadedModel, *, hold: bool) -> None:
    from rich.text import Text

    console = terminal.stdout()
    engine, lease = loaded.engine, loaded.lease
    console.print(Text.assemble((engine.model, "bold"), f" {_how(loaded)}."))
    table = terminal.table("", "")
    table.show_header = False
    table.add_row(Text("engine", "bold"), human.short(engine.name))
    table.add_row(Text("lease", "bold"), lease.name)
    table.add_row(Text("lasts", "bold"), _lasting(loaded, hold=hold))
    console.print(table)
    console.print("Next:")
    # An argument of a command could be read by every user of the host; `export` runs no program.
    terminal.print_command(console, f"export {VARIABLE}={lease.name}")
    embeds = engine.report.runner_type == "pooling"
    terminal.print_command(console, f'echo "Once upon a time" | vllmd-cli {"embed" if embeds else "generate"}')
    if not hold:
        terminal.print_command(console, "vllmd-cli release")


def _how(loaded: LoadedModel) -> str:
    if loaded.reused:
        return "was loaded already"
    seconds = loaded.engine.report.load_duration.ToTimedelta().total_seconds()
    return f"is loaded after {human.duration(seconds)}" if seconds else "is loaded"


def _lasting(loaded: LoadedModel, *, hold: bool) -> str:
    if hold:
        return "until Ctrl-C"
    ttl = human.duration(loaded.lease.ttl.ToTimedelta().total_seconds())
    return f"{ttl} after its last use"


def _print_json(loaded: LoadedModel) -> None:
    from vllmd.v1.engine_service_pb2 import LoadedModel as Message
    from vllmd.v1.engine_service_pb2 import LoadModelResponse

    message = Message(lease=loaded.lease, engine=loaded.engine, reused=loaded.reused)
    terminal.json_line(LoadModelResponse(loaded=message))
