"""The `verify` command."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from vllmd.cli import human, terminal
from vllmd.cli.failures import FAILED
from vllmd.cli.session import QUICK_SECONDS, Format, Output, connect

if TYPE_CHECKING:
    from rich.console import Console

    from vllmd.v1.gpu_pb2 import Gpu, LostGpu, ProcessVerdict

_LEFT = ("ORPHAN", "FOREIGN ORPHAN", "DEAD")


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """What a host is like at one moment."""

    gpus: Sequence[Gpu]
    gpu_error: str
    gpus_unreadable: bool
    processes: Sequence[ProcessVerdict]
    lost: Sequence[LostGpu]
    reclaiming: int
    """Engines of which the memory is not back yet."""

    @property
    def left(self) -> list[ProcessVerdict]:
        """Pick those that nobody answers for, or that are dead and still there."""
        return [one for one in self.processes if human.verdict(one.verdict) in _LEFT]

    @property
    def doomed(self) -> list[ProcessVerdict]:
        """Pick those that a reclaim would kill."""
        return [one for one in self.processes if one.doomed]

    @property
    def quarantined(self) -> list[Gpu]:
        """Pick the GPUs that are in quarantine."""
        return [gpu for gpu in self.gpus if gpu.HasField("quarantine")]

    @property
    def clean(self) -> bool:
        """True if nothing is left that anybody should look at; what can't be looked at is not clean."""
        return not (self.left or self.quarantined or self.gpus_unreadable or self.lost or self.reclaiming)


def verify(context: typer.Context, output: Output = Format.TEXT) -> None:
    """Check that nothing is left on the GPUs that nobody answers for: the before-and-after check.

    Shows the memory of each GPU and how much of it no process holds, who holds the rest, what is stuck, and what a
    reclaim would give. Exit status 0 if all is clean, 1 if something is left or a GPU can't be read.

    Examples:
      vllmd-cli verify
      vllmd-cli verify && echo clean
      vllmd-cli verify -o json | jq .reclaimable_bytes
    """
    from vllmd.cli.output.process_table import held_bytes

    with connect(context) as client:
        status = client.status(timeout=QUICK_SECONDS)
        processes = client.gpu_processes(timeout=QUICK_SECONDS).processes
    reclaiming = sum(engine.state == engine.STATE_RECLAIMING for engine in status.engines)
    host = status.host
    check = Check(status.gpus, host.gpu_error, host.gpus_unreadable, processes, status.lost_gpus, reclaiming)
    if output is Format.JSON:
        values = {
            "clean": check.clean,
            "gpu_error": check.gpu_error,
            "gpus_unreadable": check.gpus_unreadable,
            "reclaimable_bytes": held_bytes(check.doomed),
            "gpus": [terminal.fields(gpu) for gpu in check.gpus],
            "reclaiming_engines": check.reclaiming,
            "lost_gpus": [terminal.fields(gpu) for gpu in check.lost],
            "processes": [terminal.fields(process) for process in check.processes],
        }
        terminal.json_object(values)
    else:
        _print(terminal.stdout(), check)
    if not check.clean:
        raise typer.Exit(FAILED)


def unaccounted_bytes(gpu: Gpu) -> int | None:
    """Tell how much of a GPU's memory no process holds; `None` where the driver does not say who holds what."""
    if not all(process.HasField("used_bytes") for process in gpu.processes):
        return None
    return max(0, gpu.used_bytes - sum(process.used_bytes for process in gpu.processes))


def _print(console: Console, check: Check) -> None:
    from rich.text import Text

    from vllmd.cli.output.process_table import held_bytes, indexes, print_lost, print_processes, print_quarantine

    if check.gpus:
        table = terminal.table(">GPU", "PRODUCT", ">USED", ">TOTAL", ">BY NO PROCESS")
        for gpu in check.gpus:
            used, total = human.gib(gpu.used_bytes), human.gib(gpu.total_bytes)
            nobodys = unaccounted_bytes(gpu)
            table.add_row(str(gpu.index), gpu.product, used, total, "?" if nobodys is None else human.gib(nobodys))
        console.print(table)
    else:
        console.print(f"No GPUs: {check.gpu_error.rstrip('.') or 'NVML finds none'}.")
    print_lost(console, check.lost)
    for gpu in check.quarantined:
        print_quarantine(console, gpu)
    if check.processes:
        console.print()
        print_processes(console, check.processes, indexes(check.gpus))
    console.print()
    if check.clean:
        console.print(Text("Clean: nothing is left that nobody answers for.", "green"))
        if any(map(unaccounted_bytes, check.gpus)):
            # The daemon tells as an event what is more than a driver takes.
            text = "What no process holds is the driver's own, unless `vllmd-cli events` tells of a LEAK."
            console.print(Text(text, "dim"))
        return
    console.print(Text(f"Not clean: {_what_is_left(check)}.", "bold red"))
    if check.doomed:
        console.print(f"A reclaim would give back {human.gib(held_bytes(check.doomed))}:")
        terminal.print_command(console, "vllmd-cli reclaim --yes")


def _what_is_left(check: Check) -> str:
    parts = []
    if check.left:
        parts.append(human.count(len(check.left), "process") + " left")
    if check.quarantined:
        parts.append(human.count(len(check.quarantined), "GPU") + " in quarantine")
    if check.lost:
        parts.append(human.count(len(check.lost), "GPU") + " lost")
    if check.reclaiming:
        parts.append(human.count(check.reclaiming, "engine") + " on the way out, of which the memory is not back yet")
    if check.gpus_unreadable:
        parts.append("the GPUs can't be read")
    return ", ".join(parts)
