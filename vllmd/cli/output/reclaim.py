"""What the end of an engine gave back, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vllmd.cli import human, terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from vllmd.cli.output.gpu_names import GpuNames
    from vllmd.client import Client
    from vllmd.v1.engine_pb2 import Engine, ReclaimReport


def print_reclaim(console: Console, report: ReclaimReport, gpus: GpuNames) -> None:
    """Print processes, memory before and after, the seconds it took, and whether this is proven."""
    from rich.text import Text

    table = terminal.table("", "")
    table.show_header = False
    for label, text in _rows(report, gpus):
        table.add_row(Text(label, "bold"), text)
    console.print(table)


def print_end(console: Console, engine: Engine, gpus: GpuNames) -> None:
    """Print that an engine has ended, or that it is not proven, and what was given back."""
    from rich.text import Text

    verdict = "is stopped" if engine.reclaim.verified else "is NOT proven to be gone"
    style = "" if engine.reclaim.verified else "bold red"
    console.print(Text(f"{human.short(engine.name)} {verdict}.", style))
    print_reclaim(console, engine.reclaim, gpus)


def kept_after(client: Client, engine: Engine) -> list[int]:
    """Find GPUs that do not have back what an engine held that went with an earlier daemon.

    Args:
        client: of the daemon that came after it.
        engine: as `stop` or `release` returned it; without a state if it went, without a name if that is not known.
    """
    if engine.state:
        return []
    gpus = client.status().gpus
    return [
        gpu.index
        for gpu in gpus
        if gpu.quarantine.engine and gpu.quarantine.engine == (engine.name or gpu.quarantine.engine)
    ]


def print_gone(console: Console, what: str, kept: Sequence[int]) -> None:
    """Print that an engine went with an earlier daemon, so that its end is only among the events."""
    console.print(f"{what} Another daemon came meanwhile; its events tell what was given back:")
    terminal.print_command(console, "vllmd-cli events")
    if kept:
        which = " and ".join(f"GPU {index}" for index in kept)
        console.print(f"It is NOT proven to be gone: {which} is in quarantine.", style="bold red")


def _rows(report: ReclaimReport, gpus: GpuNames) -> Iterator[tuple[str, Text]]:
    from rich.text import Text

    killed = f", {report.killed_count} of them killed" if report.killed_count else ""
    took = human.duration(report.exit_duration.ToTimedelta().total_seconds())
    yield "processes", Text(f"{len(report.pids)} ended in {took}{killed}")
    took = human.duration(report.memory_duration.ToTimedelta().total_seconds())
    waited = f"back after {took}" if report.verified else f"waited {took}"
    for gpu in report.gpus:
        change = f"{human.gib(gpu.used_bytes_before)} → {human.gib(gpu.used_bytes_after)} in use"
        yield gpus.label(gpu.gpu), Text(f"{change}, {waited}")
    if report.removed_paths:
        yield "removed", Text(human.count(len(report.removed_paths), "leftover file"))
    yield (
        "verified",
        Text("yes" if report.verified else "NO", "green" if report.verified else "bold red").append(
            f": {report.summary}" if report.summary else "", "default"
        ),
    )


def print_released(engine: Engine, gpus: GpuNames, kept: Sequence[int] = ()) -> None:
    """Print what became of an engine when a lease on it ended."""
    console = terminal.stdout()
    if engine.HasField("reclaim"):
        print_end(console, engine, gpus)
        return
    if not engine.state:
        print_gone(console, "Released.", kept)
        return
    others = f" with {human.count(engine.lease_count, 'other lease')}" if engine.lease_count else ""
    console.print(f"Released. {human.short(engine.name)} stays {human.state(engine.state)}{others}.")


def unproven(engine: Engine) -> bool:
    """True if the engine ended and what it held is not proven to be back."""
    return engine.HasField("reclaim") and not engine.reclaim.verified
