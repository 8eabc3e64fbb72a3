"""Processes on GPUs as a table, and what goes with it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from vllmd.cli import human, terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from vllmd.v1.gpu_pb2 import Gpu, LostGpu, ProcessVerdict
    from vllmd.v1.host_service_pb2 import GetStatusResponse

_STYLES = {
    "OWNED": "green",
    "ORPHAN": "bold red",
    "FOREIGN ORPHAN": "bold red",
    "SUSPECT": "yellow",
    "DEAD": "magenta",
    "FOREIGN": "dim",
}


def indexes(gpus: Iterable[Gpu]) -> dict[str, int]:
    """Map the names of GPUs to their numbers."""
    return {gpu.name: gpu.index for gpu in gpus}


def held_bytes(processes: Iterable[ProcessVerdict]) -> int:
    """Sum up what processes are known to hold."""
    return sum(share.used_bytes for process in processes for share in process.shares)


def print_processes(console: Console, processes: Sequence[ProcessVerdict], gpus: Mapping[str, int]) -> None:
    """Print who holds GPU memory, whose it is and why; where there is no room for why, in lines below."""
    wide = console.width >= terminal.WIDE
    table = terminal.table(">PID", "NAME", "GPU", ">MEMORY", ">AGE", "VERDICT", *(["WHY"] if wide else []))
    for process in processes:
        why = [_why(process)] if wide else []
        table.add_row(
            str(process.pid),
            terminal.printable(process.process_name) or "-",
            ",".join(_gpu(share.gpu, gpus) for share in process.shares) or "-",
            _memory(process),
            _age(process),
            verdict_text(process),
            *why,
        )
    console.print(table)
    if not wide:
        console.print()
        for process in processes:
            console.print(f"{process.pid}: {_why(process)}")


def verdict_text(process: ProcessVerdict) -> Text:
    """Write the verdict, the more striking the worse it is."""
    from rich.text import Text

    name = human.verdict(process.verdict)
    return Text(name, _STYLES.get(name, ""))


def print_quarantine(console: Console, gpu: Gpu) -> None:
    """Say why no engine is placed on a GPU."""
    from rich.text import Text

    since = human.duration(max(0, int(time.time() - gpu.quarantine.start_time.seconds)))
    reason = terminal.printable(gpu.quarantine.reason)
    console.print(Text(f"GPU {gpu.index} is in quarantine for {since}: {reason}", "bold red"))


def print_lost(console: Console, lost: Iterable[LostGpu]) -> None:
    """Say which GPUs fell off the bus, and what helps."""
    from rich.text import Text

    for gpu in lost:
        since = human.duration(max(0, int(time.time() - gpu.start_time.seconds)))
        what = f"GPU {gpu.index} fell off the bus {since} ago: {terminal.printable(gpu.reason)}."
        console.print(Text(f"{what} Look at dmesg for an Xid, then reset the GPU or reboot.", "bold red"))


def _gpu(name: str, gpus: Mapping[str, int]) -> str:
    return str(gpus[name]) if name in gpus else "?"


def _memory(process: ProcessVerdict) -> str:
    if not process.shares:
        return "-"
    known = [share for share in process.shares if share.HasField("used_bytes")]
    return human.gib(held_bytes([process])) if known else "?"


def _age(process: ProcessVerdict) -> str:
    if not process.HasField("start_time"):
        return "-"
    return human.duration(max(0, int(time.time() - process.start_time.seconds)))


def _why(process: ProcessVerdict) -> str:
    return terminal.printable("; ".join(process.reasons))


def warn_if_unreadable(status: GetStatusResponse) -> None:
    """Say on stderr that what follows can't tell who holds GPU memory, if it can't."""
    host = status.host
    if host.gpus_unreadable:
        terminal.stderr().print(f"The GPUs can't be read, so who holds their memory is unknown: {host.gpu_error}.")
    print_lost(terminal.stderr(), status.lost_gpus)
