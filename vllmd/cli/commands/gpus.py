"""The `gpus` command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from vllmd.cli import human, terminal
from vllmd.cli.session import QUICK_SECONDS, Format, Output, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from vllmd.v1.gpu_pb2 import Gpu
    from vllmd.v1.host_service_pb2 import ListGpusResponse

_WIDE_ENOUGH_FOR_UUIDS = 120


def gpus(context: typer.Context, output: Output = Format.TEXT) -> None:
    """List the GPUs, what they have and draw, and how they are connected.

    Between two GPUs the matrix shows their NVLinks, or else the way over PCIe, in the words of `nvidia-smi topo -m`.
    A MIG slice has its GPU's number and its own: `0:1` is the second one of GPU 0.

    Examples:
      vllmd-cli gpus
      vllmd-cli gpus -o json | jq '.links[] | select(.nvlink_count > 0)'
    """
    with connect(context) as client:
        answer = client.gpus(timeout=QUICK_SECONDS)
    if output is Format.JSON:
        terminal.json_document(answer)
    else:
        _print(terminal.stdout(), answer)


def _print(console: Console, answer: ListGpusResponse) -> None:
    from vllmd.cli.output.link_matrix import print_links
    from vllmd.cli.output.process_table import print_lost, print_quarantine

    versions = (("driver", answer.driver_version), ("CUDA", answer.cuda_version))
    known = [f"{what} {version}" for what, version in versions if version]
    if known:
        console.print(" · ".join(known), end="\n\n")
    if answer.gpus:
        _print_table(console, answer.gpus)
    else:
        console.print(f"No GPUs: {answer.error or 'NVML finds none'}.")
    for gpu in answer.gpus:
        if gpu.HasField("quarantine"):
            print_quarantine(console, gpu)
    print_lost(console, answer.lost_gpus)
    if answer.links:
        console.print()
        print_links(console, answer.gpus, answer.links)


def _print_table(console: Console, gpus: Sequence[Gpu]) -> None:
    wide = console.width >= _WIDE_ENOUGH_FOR_UUIDS
    columns = (">GPU", "PRODUCT", ">USED", ">TOTAL", ">UTIL", ">POWER", "PCIE", ">CC")
    table = terminal.table(*columns, *(["UUID"] if wide else []))
    for number, gpu in zip(human.gpu_numbers(gpus), gpus, strict=True):
        table.add_row(
            number,
            terminal.printable(gpu.product),
            human.gib(gpu.used_bytes).removesuffix(" GiB"),
            human.gib(gpu.total_bytes),
            f"{gpu.utilization:.0%}" if gpu.HasField("utilization") else "-",
            _power(gpu),
            _pcie(gpu),
            gpu.compute_capability or "-",
            *([human.short(gpu.name)] if wide else []),
        )
    console.print(table)


def _power(gpu: Gpu) -> str:
    drawn = f"{gpu.power_watts:.0f}" if gpu.HasField("power_watts") else "-"
    if gpu.HasField("power_limit_watts"):
        return f"{drawn}/{gpu.power_limit_watts:.0f} W"
    return drawn if drawn == "-" else f"{drawn} W"


def _pcie(gpu: Gpu) -> str:
    if not (gpu.pci.HasField("generation") or gpu.pci.HasField("width")):
        return "-"
    generation = gpu.pci.generation if gpu.pci.HasField("generation") else "-"
    return f"{generation} x{gpu.pci.width if gpu.pci.HasField('width') else '-'}"
