from __future__ import annotations

import io

from rich.console import Console

from tests.fakes.samples import failed, ready, starting
from vllmd.cli.engine_table import print_engines, state_text
from vllmd.v1.engine_pb2 import Engine


def printed(width: int, *engines: Engine) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_engines(console, engines)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_one_line_an_engine_where_there_is_room() -> None:
    """A wide table has the model in a column of its own."""
    head, first, second = printed(120, starting(), ready())

    assert head.split() == ["ENGINE", "STATE", "MODEL", "UP", "LEASES", "RUN", "TOK/S"]
    assert "meta-llama/Llama-3.1-8B-Instruct" in first
    assert second.split()[:3] == ["qwen3-8b-3f2a", "READY", "Qwen/Qwen3-8B"]


def test_two_lines_an_engine_where_there_is_not() -> None:
    """A narrow table has the model below the name, and cuts the model sooner than the name."""
    lines = printed(80, starting())

    assert lines[1].split()[:2] == ["llama-3.1-8b-instruct-91bc", "STARTING"]
    assert lines[2].split() == ["meta-llama/Llama-3.1-8B-Ins…", "loading", "weights", "42%"]


def test_engine_that_does_not_run_has_no_numbers() -> None:
    """What a failed engine would generate is not zero but nothing."""
    assert printed(120, failed())[1].split()[-4:] == ["-", "0", "-", "-"]


def test_state_of_a_newer_daemon() -> None:
    """A state without a name here is its number."""
    assert state_text(Engine(state=77)).plain == "77"  # type: ignore[arg-type]
