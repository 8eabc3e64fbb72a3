from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.fakes.samples import reclaimed
from vllmd.cli.output.gpu_names import GpuNames
from vllmd.cli.output.reclaim import print_reclaim
from vllmd.v1.engine_pb2 import ReclaimReport


def printed(report: ReclaimReport) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_reclaim(console, report, GpuNames(tuple))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("verified", "words"), [(True, "back after 310ms"), (False, "waited 310ms")])
def test_memory_is_back_only_when_proven(verified: bool, words: str) -> None:
    """Memory that did not come back is not called back."""
    assert words in printed(reclaimed(verified=verified))


def test_nothing_is_said_about_what_was_not_there() -> None:
    """Without GPU, kills and leftovers there is no line about them."""
    lines = [line.split() for line in printed(ReclaimReport(verified=True, pids=[1])).splitlines()]

    assert lines == [["processes", "1", "ended", "in", "0s"], ["verified", "yes"]]
