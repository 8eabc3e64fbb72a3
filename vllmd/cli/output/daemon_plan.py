"""What the daemon would do to load a model: asked for, and shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vllmd.cli import human, terminal
from vllmd.cli.output.argument_table import print_arguments
from vllmd.cli.output.engine_page import argument_row, print_memory

if TYPE_CHECKING:
    from rich.console import Console

    from vllmd.cli.output.gpu_names import GpuNames
    from vllmd.client import Client
    from vllmd.v1.engine_service_pb2 import PlanModelResponse


def ask(client: Client, model: str, options: dict[str, Any]) -> PlanModelResponse | None:
    """Ask the daemon; `None` if there is none, or it is of a version that can't say.

    Raises:
        VllmdError: the model can't be loaded.
    """
    from vllmd.client import DaemonUnreachable, VllmdError

    try:
        return client.plan(_for_daemon(client, model), **options)
    except DaemonUnreachable as error:
        if error.was_there:
            raise
        return None
    except VllmdError as error:
        if error.code.name == "UNIMPLEMENTED":
            return None
        raise


def print_daemon_plan(console: Console, model: str, plan: PlanModelResponse, gpus: GpuNames) -> None:
    """Print where it would run, what stands in its way, what it would take, and each argument with its reason."""
    from rich.text import Text

    facts = terminal.table("", "")
    facts.show_header = False
    facts.add_row(Text("model", "bold"), Text(terminal.printable(model)))
    facts.add_row(Text("GPUs", "bold"), gpus.listed(plan.gpus) or "none, would run on the CPU")
    if plan.shared_engine:
        facts.add_row(Text("shares", "bold"), f"{human.short(plan.shared_engine)}, which is loaded already")
    if plan.blocking_engines:
        names = ", ".join(map(human.short, plan.blocking_engines))
        facts.add_row(Text("blocked by", "bold"), Text(names, "yellow"))
    console.print(facts)
    if plan.HasField("planned_memory"):
        print_memory(console, {"PLANNED": plan.planned_memory}, len(plan.gpus))
    if plan.effective_args:
        terminal.heading(console, "ARGUMENTS")
        print_arguments(console, map(argument_row, plan.effective_args))
    if plan.blocking_engines:
        console.print("\nIt can't start before these have ended:")
        for name in plan.blocking_engines:
            terminal.print_command(console, f"vllmd-cli stop {human.short(name)}")


def _for_daemon(client: Client, model: str) -> str:
    """Make the path of a folder absolute for a daemon on this host, which has another working directory."""
    return os.path.abspath(model) if client.target.startswith("unix:") and os.path.isdir(model) else model
