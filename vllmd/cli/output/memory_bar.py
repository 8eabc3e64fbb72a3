"""What is on a GPU, as a bar: each part in a colour and a pattern of its own, and a legend with the sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from vllmd.cli import human

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDEST = 80
"""A wider bar says no more."""

_LEAST_CELLS = 10
_LEGEND_GAP = 3
_CLOSE_BYTES = 50 << 20
"""Sizes that differ by less look the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    name: str
    label: str
    pattern: str
    letter: str
    """For where there are no other characters."""
    style: str

    def sign(self, ascii_only: bool) -> str:
        """What fills its cells."""
        return self.letter if ascii_only else self.pattern


PARTS = (
    _Part("weights", "weights", "█", "W", "blue"),
    _Part("kv_cache", "KV cache", "▓", "K", "green"),
    _Part("activation", "activations", "▒", "A", "yellow"),
    _Part("graphs", "graphs, buffers", "░", "G", "magenta"),
    _Part("other", "CUDA's own", "▚", "C", "cyan"),
    _Part("held", "driver, others", "/", "H", "red"),
    _Part("free", "free", "·", ".", "dim"),
)
"""From the left to the right."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """One GPU."""

    label: str
    total: int
    parts: Mapping[str, int | None]
    """Bytes by the names of `PARTS`; what is not known is left out of the bar."""


def print_bars(console: Console, bars: Sequence[Bar]) -> None:
    """Print a bar for each GPU, and one legend."""
    from rich.text import Text

    ascii_only = console.options.ascii_only
    width = min(console.width, WIDEST)
    labels = max(len(bar.label) for bar in bars)
    ends = [_end(bar) for bar in bars]
    room = max(_LEAST_CELLS, width - labels - max(map(len, ends)) - 4)
    for bar, end in zip(bars, ends, strict=True):
        line = Text.assemble((f"{bar.label:<{labels}}", "bold"), "  ")
        for part, count in zip(PARTS, cells(bar, room), strict=True):
            line.append(part.sign(ascii_only) * count, part.style)
        console.print(line.append(f"  {end}"), soft_wrap=True)
    for line in _legend(bars, labels + 2, width, ascii_only):
        console.print(line, soft_wrap=True)


def cells(bar: Bar, width: int) -> list[int]:
    """Divide a bar of so many cells: each part has one at least, and together they fill it.

    Where they come to more than the GPU has, the bar shows their proportions.
    """
    sizes = [max(0, bar.parts.get(part.name) or 0) for part in PARTS]
    whole = max(sum(sizes), 1)
    exact = [size * width / whole for size in sizes]
    counts = [max(int(size > 0), int(share)) for size, share in zip(sizes, exact, strict=True)]
    while sum(counts) > width and max(counts) > 1:
        counts[counts.index(max(counts))] -= 1
    while any(sizes) and sum(counts) < width:
        short = [share - count for share, count in zip(exact, counts, strict=True)]
        counts[short.index(max(short))] += 1
    return counts


def _end(bar: Bar) -> str:
    free = bar.parts.get("free")
    total = human.gib(bar.total)
    if free is None:
        return total
    if free < 0:
        return f"{human.gib(-free)} over {total}"
    return f"{human.gib(free).removesuffix(' GiB')} of {total} free"


def _legend(bars: Sequence[Bar], indent: int, width: int, ascii_only: bool) -> Iterator[Text]:
    """Explain the patterns that are used, on as many lines as it takes."""
    from rich.text import Text

    line = Text(" " * indent)
    for part in PARTS:
        sizes = [size for bar in bars if (size := bar.parts.get(part.name)) is not None and size > 0]
        if not sizes:
            continue
        entry = Text.assemble((part.sign(ascii_only), part.style), f" {part.label} {_range(sizes)}")
        gap = _LEGEND_GAP if len(line) > indent else 0
        if gap and len(line) + gap + len(entry) > width:
            yield line
            line, gap = Text(" " * indent), 0
        line.append(" " * gap).append_text(entry)
    if len(line) > indent:
        yield line


def _range(sizes: Sequence[int]) -> str:
    least, most = min(sizes), max(sizes)
    words = human.gib(most)
    return words if most - least < _CLOSE_BYTES else f"{human.gib(least).removesuffix(' GiB')} to {words}"
