from __future__ import annotations

import json
import re
import signal

import pytest

from tests.cli.conftest import Run, Spawn
from tests.fakes.fake_daemon import FakeDaemon, Hang, upgrading
from tests.fakes.samples import failed, ready, starting
from tests.fakes.terminal import CTRL_C, at_terminal
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import Engine, LoadProgress


def changed(*engines: Engine, forgotten: tuple[str, ...] = ()) -> pb.WatchEnginesResponse:
    return pb.WatchEnginesResponse(engines=engines, forgotten_engines=forgotten)


def busy(tokens_per_second: float) -> Engine:
    engine = ready()
    engine.tokens_per_second = tokens_per_second
    return engine


def test_lines_in_a_pipe(daemon: FakeDaemon, run: Run) -> None:
    """One for each engine as it is, then for each change of a state or a phase; figures alone are none."""
    compiling = starting()
    compiling.progress.CopyFrom(LoadProgress(phase=LoadProgress.PHASE_COMPILING, message="torch.compile"))
    daemon.watch = [
        changed(ready(), starting()),
        changed(busy(7)),
        changed(compiling, forgotten=("engines/qwen3-8b-3f2a",)),
    ]

    result = run("watch")

    lines = [line.split("  ", 1)[1] for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert lines == [
        "qwen3-8b-3f2a  READY  Qwen/Qwen3-8B",
        "llama-3.1-8b-instruct-91bc  STARTING loading weights 42%  meta-llama/Llama-3.1-8B-Instruct",
        "llama-3.1-8b-instruct-91bc  STARTING torch.compile  meta-llama/Llama-3.1-8B-Instruct",
        "qwen3-8b-3f2a  is listed no longer",
    ]


def test_programs_get_the_responses(daemon: FakeDaemon, run: Run) -> None:
    """A line each, and the wishes go with the request."""
    daemon.watch = [changed(ready()), changed(forgotten=("engines/x",))]

    lines = [json.loads(line) for line in run("watch", "x", "--interval", "2s", "-o", "json").stdout.splitlines()]

    assert lines[0]["engines"][0]["state"] == "STATE_READY"
    assert lines[1] == {"engines": [], "forgotten_engines": ["engines/x"]}
    (request,) = daemon.requests
    assert (request.name, request.min_interval.seconds) == ("engines/x", 2)


def test_ctrl_c_ends_it(daemon: FakeDaemon, spawn: Spawn) -> None:
    """As it ends `events -f`."""
    daemon.watch = [changed(ready()), Hang()]
    process = spawn("watch")
    assert process.stdout is not None
    assert "READY" in process.stdout.readline()

    process.send_signal(signal.SIGINT)

    assert process.wait(20) == 130
    assert daemon.cancelled.wait(5)


def test_a_table_at_a_terminal(daemon: FakeDaemon) -> None:
    """It is drawn anew over itself, of 80 columns at most, and the last one stays."""
    daemon.watch = [changed(starting(), ready()), changed(failed()), Hang()]
    with at_terminal("watch", VLLMD_ADDRESS=daemon.target) as terminal:
        shown = terminal.until("More: vllmd-cli engines ENGINE")
        terminal.press(CTRL_C)
        status, _ = terminal.end()

    assert status == 130
    assert "\x1b[1A" in terminal.raw
    assert "mistral-7b-77aa: VLLM::EngineCore (pid 4802) was killed" in shown
    assert shown.index("STARTING") < shown.rindex("FAILED")
    assert max(map(len, re.split(r"\n|\x1b\[[12][AK]", terminal.text))) <= 80


@pytest.mark.parametrize(("engine", "status"), [(ready(), 0), (failed(), 1)])
def test_the_end_of_one_engine(daemon: FakeDaemon, run: Run, engine: Engine, status: int) -> None:
    """The exit status tells whether it failed."""
    daemon.watch = [changed(engine)]

    assert run("watch", engine.name).exit_code == status
    assert run("watch").exit_code == 0


def test_an_upgrade_is_outlasted(daemon: FakeDaemon, spawn: Spawn) -> None:
    """It goes on with the new program, of which only what is new is told."""
    daemon.watch = [changed(ready()), upgrading(), Hang()]
    process = spawn("watch")
    assert process.stdout is not None
    first = process.stdout.readline()
    daemon.watch = [changed(busy(9), starting()), Hang()]
    second = process.stdout.readline()

    assert "READY" in first
    assert "STARTING" in second


@pytest.mark.parametrize("interval", ["soon", "61s"])
def test_an_interval_that_is_none(run: Run, interval: str) -> None:
    """It is misuse."""
    assert run("watch", "--interval", interval).exit_code == 2


def test_without_engines(daemon: FakeDaemon) -> None:
    """It says what to do."""
    daemon.watch = [changed(), Hang()]
    with at_terminal("watch", VLLMD_ADDRESS=daemon.target) as terminal:
        terminal.until("No engines. Load a model with: vllmd-cli load MODEL")
