"""The `reclaim` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli.completion import doomed_pids
from vllmd.cli.failures import FAILED
from vllmd.cli.session import QUICK_SECONDS, Format, Output, connect

if TYPE_CHECKING:
    from vllmd.v1.gpu_pb2 import Gpu
    from vllmd.v1.host_service_pb2 import ReclaimResponse


def reclaim(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it; without this it is only shown.")] = False,
    pid: Annotated[
        int | None,
        typer.Option(
            "--pid",
            min=1,
            max=2**31 - 1,
            metavar="PID",
            help="Only the tree that this process is in.",
            autocompletion=doomed_pids,
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Show what nobody answers for and would be killed, or kill it and prove that its memory is back.

    There is no grace period, but what is not proven to be an orphan is left alone here too. With --yes it returns when
    the processes are gone and NVML shows the memory back. Exit status 1 if that is not proven.

    Examples:
      vllmd-cli reclaim
      vllmd-cli reclaim --yes
      vllmd-cli reclaim --yes --pid 4711
    """
    with connect(context) as client:
        answer = client.reclaim(confirmed=yes, pid=pid, timeout=None if yes else QUICK_SECONDS)
        status = client.status(timeout=QUICK_SECONDS) if output is Format.TEXT else None
    if status is None:
        terminal.json_document(answer)
    else:
        from vllmd.cli.output.process_table import warn_if_unreadable

        warn_if_unreadable(status)
        _print(answer, list(status.gpus), yes, pid)
    if not all(report.verified for report in answer.reports):
        raise typer.Exit(FAILED)


def _print(answer: ReclaimResponse, gpus: list[Gpu], done: bool, pid: int | None) -> None:
    from vllmd.cli.output.gpu_names import GpuNames
    from vllmd.cli.output.process_table import held_bytes, indexes, print_processes
    from vllmd.cli.output.reclaim import print_reclaim

    console = terminal.stdout()
    if not answer.processes:
        console.print("There is nothing to reclaim.")
        return
    print_processes(console, answer.processes, indexes(gpus))
    console.print()
    names = GpuNames(lambda: gpus)
    for report in answer.reports:
        print_reclaim(console, report, names)
    if not done:
        what = f"{human.count(len(answer.processes), 'process')} with {human.gib(held_bytes(answer.processes))}"
        console.print(f"{what} would be killed. To do it:")
        terminal.print_command(console, "vllmd-cli reclaim --yes" + (f" --pid {pid}" if pid else ""))
