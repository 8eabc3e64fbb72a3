from __future__ import annotations

import io

from rich.console import Console

from tests.fakes.host_samples import SECOND_GPU, lost, orphan, owned, suspect
from tests.fakes.samples import GIB, GPU
from vllmd.cli.output.process_table import held_bytes, print_processes, verdict_text
from vllmd.v1.gpu_pb2 import ProcessVerdict


def printed(width: int, *processes: ProcessVerdict) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_processes(console, processes, {GPU: 0, SECOND_GPU: 1})
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_wide_table_has_everything_on_a_line() -> None:
    """Who, where, how much, since when, whose, and why."""
    lines = printed(200, owned(), orphan(), suspect(), lost())

    assert lines[0].split() == ["PID", "NAME", "GPU", "MEMORY", "AGE", "VERDICT", "WHY"]
    assert lines[1].split()[:8] == ["4802", "VLLM::EngineCor", "0", "62.0", "GiB", "1h02m", "OWNED", "it"]
    assert lines[2].split()[:8] == ["3412991", "VLLM::Worker_TP", "0,1", "40.0", "GiB", "1d01h", "FOREIGN", "ORPHAN"]
    assert "was seen alive and then dead" in lines[2]
    assert lines[3].split()[2:4] == ["1", "?"]
    assert lines[3].split()[4].startswith("1m3")
    assert lines[4].split()[:6] == ["5", "-", "?", "1.0", "GiB", "-"]


def test_80_columns_are_enough() -> None:
    """Why is said below then, whole."""
    lines = printed(80, owned(), orphan(), suspect(), lost())

    assert max(len(line) for line in lines) <= 80
    assert any(
        line.startswith("3412991  VLLM::Worker_TP") and line.rstrip().endswith("FOREIGN ORPHAN") for line in lines
    )
    assert "99: its parent (pid 1, systemd) is a reaper, but pid 812 (python) holds the" in [
        line.rstrip() for line in lines
    ]


def test_what_a_process_calls_itself_commands_no_terminal() -> None:
    """Anybody may choose a name."""
    process = owned()
    process.process_name = "\x1b[2Jevil"

    assert "evil" in printed(200, process)[1]
    assert "\x1b" not in printed(200, process)[1]


def test_the_verdict_of_a_newer_daemon_is_shown_as_it_is() -> None:
    """More may be added."""
    assert verdict_text(ProcessVerdict(verdict=77)).plain == "77"  # type: ignore[arg-type]


def test_what_they_hold() -> None:
    """Over all GPUs, as far as it is known."""
    assert held_bytes([orphan(), suspect()]) == 40 * GIB
