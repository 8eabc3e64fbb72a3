"""The `status` command."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from vllmd.cli import human, terminal
from vllmd.cli.output.engine_table import NO_ENGINES, print_overview
from vllmd.cli.output.process_table import print_lost, print_quarantine
from vllmd.cli.session import QUICK_SECONDS, Format, Output, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from vllmd.v1.gpu_pb2 import Gpu
    from vllmd.v1.host_service_pb2 import GetStatusResponse, Host


def status(context: typer.Context, output: Output = Format.TEXT) -> None:
    """Show the host, its GPUs and the engines on them.

    Examples:
      vllmd-cli status
      vllmd-cli status -o json | jq '.gpus[].free_bytes'
    """
    with connect(context) as client:
        answer = client.status(timeout=QUICK_SECONDS)
    if output is Format.JSON:
        terminal.json_document(answer)
    else:
        _print_status(terminal.stdout(), answer)


def _print_status(console: Console, answer: GetStatusResponse) -> None:
    _print_host(console, answer.host)
    console.print()
    if answer.gpus:
        _print_gpus(console, answer.gpus)
    else:
        console.print(f"No GPUs: {answer.host.gpu_error or 'NVML finds none'}.")
    print_lost(console, answer.lost_gpus)
    console.print()
    if answer.engines:
        print_overview(console, answer.engines)
    else:
        console.print(NO_ENGINES)


def _print_host(console: Console, host: Host) -> None:
    from rich.text import Text

    up = human.duration(int(time.time() - host.start_time.seconds))
    facts = [f"vllmd {host.version} up {up}"]
    if host.driver_version:
        facts.append(f"driver {host.driver_version}")
    if host.memory_total_bytes:
        free, total = host.memory_available_bytes / 2**30, host.memory_total_bytes / 2**30
        facts.append(f"RAM {free:.0f}/{total:.0f} GiB free")
    console.print(Text.assemble((host.hostname, "bold"), "  ", " · ".join(facts)))
    if host.draining:
        console.print(Text("The daemon is draining: it finishes and takes no new work.", "yellow"))


def _print_gpus(console: Console, gpus: Sequence[Gpu]) -> None:
    bars = console.is_terminal and console.width >= terminal.WIDE
    table = terminal.table(">GPU", "PRODUCT", *(["MEMORY"] if bars else []), ">USED", ">TOTAL", ">UTIL", "USED BY")
    for number, gpu in zip(human.gpu_numbers(gpus), gpus, strict=True):
        bar = [_bar(gpu)] if bars else []
        used = human.gib(gpu.used_bytes).removesuffix(" GiB")
        utilization = f"{gpu.utilization:.0%}" if gpu.HasField("utilization") else "-"
        cells = [used, human.gib(gpu.total_bytes), utilization, _holders(gpu)]
        table.add_row(number, gpu.product, *bar, *cells)
    console.print(table)
    for gpu in gpus:
        if gpu.HasField("quarantine"):
            print_quarantine(console, gpu)


def _bar(gpu: Gpu) -> RenderableType:
    from rich.progress_bar import ProgressBar

    share = gpu.used_bytes / gpu.total_bytes if gpu.total_bytes else 0.0
    return ProgressBar(total=1.0, completed=share, width=10, complete_style="cyan", finished_style="cyan")


def _holders(gpu: Gpu) -> str:
    """Name the engines on a GPU, and count what is not ours."""
    engines = sorted({human.short(process.engine) for process in gpu.processes if process.engine})
    others = [process for process in gpu.processes if not process.engine]
    if others:
        held = sum(process.used_bytes for process in others)
        size = f" ({human.gib(held)})" if held else ""
        engines.append(human.count(len(others), "other process") + size)
    return ", ".join(engines)
