"""The `ps` command."""

from __future__ import annotations

import typer

from vllmd.cli import terminal
from vllmd.cli.session import QUICK_SECONDS, Format, Output, connect


def ps(context: typer.Context, output: Output = Format.TEXT) -> None:
    """List who holds GPU memory or is called like vLLM's own, whose it is, and why.

    An ORPHAN is left of an engine of this daemon, a FOREIGN ORPHAN of another program that is proven to be dead; a
    SUSPECT lacks that proof and is left alone, as everything FOREIGN is. `reclaim` shows what it would do about them.

    Examples:
      vllmd-cli ps
      vllmd-cli ps -o json | jq '.processes[] | select(.doomed) | .pid'
    """
    with connect(context) as client:
        answer = client.gpu_processes(timeout=QUICK_SECONDS)
        status = client.status(timeout=QUICK_SECONDS) if output is Format.TEXT else None
    if status is None:
        terminal.json_document(answer)
        return
    from vllmd.cli.output.process_table import indexes, print_processes, warn_if_unreadable

    warn_if_unreadable(status)
    if answer.processes:
        print_processes(terminal.stdout(), answer.processes, indexes(status.gpus))
    else:
        print("Nobody holds GPU memory, and nothing is called like vLLM's.")
