from __future__ import annotations

import io
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.fakes.fake_gpus import GIB
from vllmd.cli.output.memory_bar import PARTS, Bar, cells, print_bars

NAMES = [part.name for part in PARTS]


def bar(label: str = "GPU 0", total: int = 24 * GIB, **parts: int) -> Bar:
    """A GPU with so much of each part, in GiB, and what is left of it."""
    sizes = {name: size * GIB for name, size in parts.items()}
    return Bar(label, total, {**dict.fromkeys(NAMES), **sizes, "free": total - sum(sizes.values())})


def shown(*bars: Bar, width: int = 80, encoding: str = "utf-8", colour: bool = False) -> list[str]:
    """What is printed, line by line."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    print_bars(
        Console(file=stream, width=width, force_terminal=colour, color_system="standard" if colour else None), bars
    )
    stream.flush()
    stream.seek(0)
    return stream.read().splitlines()


def test_parts_are_in_proportion() -> None:
    """Each by a character of its own, so that it can be read without colours."""
    line, *legend = shown(bar(weights=8, kv_cache=12, held=1))
    counts = Counter(line.split()[2])

    assert line.startswith("GPU 0  ")
    assert line.endswith("  3.0 of 24.0 GiB free")
    assert counts["▓"] == pytest.approx(1.5 * counts["█"], abs=1)
    assert counts["█"] == pytest.approx(8 * counts["/"], abs=4)
    assert [entry.strip() for entry in "   ".join(legend).split("   ") if entry] == [
        "█ weights 8.0 GiB", "▓ KV cache 12.0 GiB", "/ driver, others 1.0 GiB", "· free 3.0 GiB",
    ]  # fmt: skip


@given(st.lists(st.integers(0, 80 * GIB), min_size=7, max_size=7), st.integers(10, 100))
def test_the_bar_is_filled_exactly(sizes: list[int], width: int) -> None:
    """No part that is there is left out, however small, and none that is not is shown."""
    counts = cells(Bar("GPU 0", 80 * GIB, dict(zip(NAMES, sizes, strict=True))), width)

    assert sum(counts) == (width if any(sizes) else 0)
    assert [count > 0 for count in counts] == [size > 0 for size in sizes]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_eight_gpus_fit_a_terminal(width: int) -> None:
    """One legend is enough for them, and a wide terminal needs no wider bars."""
    lines = shown(
        *(bar(f"GPU {index}", weights=8, kv_cache=12, activation=1, held=1) for index in range(8)), width=width
    )

    assert max(map(len, lines)) <= min(width, 80)
    assert len([line for line in lines if line.startswith("GPU")]) == 8
    assert len(lines) <= 11
    assert len({len(line) for line in lines[:8]}) == 1


def test_what_differs_is_a_range() -> None:
    """On one GPU others hold more than on the next."""
    text = "\n".join(shown(bar(weights=8, held=1), bar("GPU 1", weights=8, held=10)))

    assert "█ weights 8.0 GiB" in text
    assert "/ driver, others 1.0 to 10.0 GiB" in text
    assert "· free 6.0 to 15.0 GiB" in text


def test_what_is_not_known_is_not_shown() -> None:
    """Before a plan there are only what others hold and what is free."""
    line, legend = shown(bar(held=12))

    assert set(line.split()[2]) == {"/", "·"}
    assert "weights" not in legend


def test_more_than_there_is() -> None:
    """It is told by how much, and the bar is still a bar."""
    line, *_ = shown(bar(weights=30))

    assert line.endswith("6.0 GiB over 24.0 GiB")
    assert len(line) <= 80


def test_letters_where_there_are_no_blocks() -> None:
    """A terminal of the old days has them."""
    line, *_ = shown(bar(weights=8, kv_cache=12), encoding="ascii")

    assert set(line.split()[2]) == {"W", "K", "."}


def test_colours_on_a_terminal() -> None:
    """A part and its legend have the same."""
    text = "\n".join(shown(bar(weights=8), colour=True))

    assert text.count("\x1b[34m█") == 2


def test_signs_are_distinct() -> None:
    """No two parts look the same."""
    for ascii_only in (False, True):
        assert len({part.sign(ascii_only) for part in PARTS}) == len(PARTS)
    assert len({part.style for part in PARTS}) == len(PARTS)
