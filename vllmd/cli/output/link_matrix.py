"""How the GPUs are connected, as the matrix that `nvidia-smi topo -m` shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vllmd.cli import human, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from vllmd.v1.gpu_pb2 import Gpu, GpuLink

UNKNOWN = "-"
_DENIED = "!"
_LEGEND = {
    "NV": "bonded NVLinks, # of them, direct or over an NVSwitch",
    "BOARD": "on the same board",
    "PIX": "over PCIe, by one bridge",
    "PXB": "over PCIe, by several bridges",
    "PHB": "over PCIe, by the CPU's host bridge",
    "NODE": "over PCIe, by host bridges of one NUMA node",
    "SYS": "over PCIe and the link between NUMA nodes",
    UNKNOWN: "the driver does not say",
    _DENIED: "no peer access: neither can use the other's memory",
}


def print_links(console: Console, gpus: Sequence[Gpu], links: Iterable[GpuLink]) -> None:
    """Print the matrix, and what the words in it mean."""
    words = {(link.first_gpu, link.second_gpu): word(link) for link in links}
    ends = {name for pair in words for name in pair}
    shown = [gpu for gpu in gpus if gpu.name in ends]
    table = terminal.table("", *(f"GPU{gpu.index}" for gpu in shown))
    for row in shown:
        cells = [_between(words, row.name, column.name) for column in shown]
        table.add_row(f"GPU{row.index}", *cells)
    console.print(table)
    console.print()
    for key, meaning in _legend(words.values()):
        console.print(f"  {key:<5}  {meaning}")


def word(link: GpuLink) -> str:
    """Say in a word how two GPUs are connected: by NVLink, or else over PCIe."""
    over_pcie = human.path(link.path) if link.path else UNKNOWN
    way = f"NV{link.nvlink_count}" if link.nvlink_count else over_pcie
    denied = link.HasField("peer_access") and not link.peer_access
    return way + _DENIED if denied else way


def _between(words: dict[tuple[str, str], str], row: str, column: str) -> str:
    if row == column:
        return " X"
    return words.get((row, column)) or words.get((column, row)) or UNKNOWN


def _legend(words: Iterable[str]) -> list[tuple[str, str]]:
    """Explain the words that are there, from near to far."""
    seen = set()
    for one in words:
        way = one.removesuffix(_DENIED)
        seen |= {"NV" if way.startswith("NV") else way} | ({_DENIED} if way != one else set())
    return [("NV#" if key == "NV" else key, meaning) for key, meaning in _LEGEND.items() if key in seen]
