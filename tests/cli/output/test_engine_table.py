from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from tests.fakes.samples import ago, failed, ready, starting
from vllmd.cli.output.engine_table import print_engines, print_overview, state_text, without_old_failures
from vllmd.v1.engine_pb2 import Engine, Transition


def printed(
    width: int, *engines: Engine, show: Callable[[Console, Sequence[Engine]], None] = print_engines
) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    show(console, engines)
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


def failed_ago(seconds: float) -> Engine:
    engine = failed()
    engine.name = f"engines/{seconds:.0f}"
    engine.failure.message = "first line\nsecond " + "line " * 40
    engine.transitions.append(Transition(time=ago(seconds), new_state=Engine.STATE_FAILED))
    return engine


def test_last_failures_are_those_of_late() -> None:
    """When it failed counts, not when it was created or where it is listed; what has not failed always stays."""
    engines = [failed_ago(50), ready(), failed_ago(10), failed_ago(40), failed_ago(20), failed_ago(30), starting()]

    shown = [engine.name.removeprefix("engines/") for engine in without_old_failures(engines)]

    assert shown == ["qwen3-8b-3f2a", "10", "20", "30", "llama-3.1-8b-instruct-91bc"]


@pytest.mark.parametrize(("width", "longest"), [(60, 80), (80, 80), (120, 120)])
def test_overview_says_in_one_line_why_an_engine_failed(width: int, longest: int) -> None:
    """A message takes one line of the terminal, and of a narrow one at least what is readable."""
    lines = printed(width, failed_ago(10), failed_ago(20), show=print_overview)

    *_, first, second, more = lines
    assert first.startswith("10: first line second line")
    assert second.startswith("20: first line")
    assert first.endswith("…")
    assert len(first) == longest
    assert more == "More: vllmd-cli engines ENGINE"


def test_overview_without_failures_is_the_table() -> None:
    """Nothing is said below where nothing failed."""
    assert printed(120, ready(), show=print_overview) == printed(120, ready())


def test_state_of_a_newer_daemon() -> None:
    """A state without a name here is its number."""
    assert state_text(Engine(state=77)).plain == "77"  # type: ignore[arg-type]


def test_an_engine_that_serves_again_has_its_numbers() -> None:
    """The report of its last end stays with it."""
    again = ready()
    again.reclaim.verified = True
    _, before = printed(120, ready())
    _, after = printed(120, again)

    assert before == after
