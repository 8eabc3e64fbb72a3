from __future__ import annotations

import json
import os
import pty
import signal
import subprocess

import pytest

from tests.cli.conftest import Run, Spawn
from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal
from tests.fakes.samples import loaded, progress, stopped, weights
from vllmd.planner.use_cases import USE_CASES
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import LoadProgress, UseCase

LEASE = "leases/5d41402abc4b2a76b9719d911017c592"


def test_prints_engine_lease_and_what_is_next(daemon: FakeDaemon, run: Run) -> None:
    """A load ends with what to type next, on stdout; the progress before is on stderr, each step once."""
    daemon.load = [
        progress(LoadProgress.PHASE_SPAWNING, 0.1),
        weights(0.25),
        weights(0.25),
        progress(LoadProgress.PHASE_CAPTURING_GRAPHS, 31, "capturing CUDA graphs 12/67"),
        loaded(),
    ]

    result = run("load", "Qwen/Qwen3-8B")

    assert result.exit_code == 0
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "Qwen/Qwen3-8B is loaded after 38s.",
        "engine  qwen3-8b-3f2a",
        f"lease   {LEASE}",
        "lasts   10m after its last use",
        "Next:",
        f"  export VLLMD_LEASE={LEASE}",
        '  echo "Once upon a time" | vllmd-cli generate',
        "  vllmd-cli release",
    ]
    assert result.stderr.splitlines() == [
        " 100ms  spawning",
        "   14s  loading weights 25%",
        "   31s  capturing CUDA graphs 12/67",
    ]


def test_what_is_next_with_an_embedding_model(daemon: FakeDaemon, run: Run) -> None:
    """The command is one that such a model takes, and works with the lease that was exported."""
    response = loaded()
    response.loaded.engine.report.runner_type = "pooling"
    daemon.load = [response]

    out = run("load", "m").stdout

    assert '  echo "Once upon a time" | vllmd-cli embed\n' in out
    assert "vllmd-cli generate" not in out


def test_options_reach_the_daemon(daemon: FakeDaemon, run: Run) -> None:
    """Every option is in the request."""
    daemon.load = [loaded(reused=True)]
    options = ["--set", "max_model_len=8192", "--set", "dtype=half", "--revision", "r1", "--no-auto-config"]

    result = run("load", "m", *options, "--ttl", "1h30m")

    expected = pb.LoadModelRequest(model="m", revision="r1", disable_auto_config=True)
    expected.engine_args.update({"max_model_len": 8192, "dtype": "half"})
    expected.lease_ttl.seconds = 5400
    assert daemon.requests == [expected]
    assert "was loaded already" in result.stdout


@pytest.mark.parametrize("name", list(USE_CASES))
def test_what_a_model_is_for_reaches_the_daemon(daemon: FakeDaemon, run: Run, name: str) -> None:
    """By the planner's name."""
    daemon.load = [loaded()]

    assert run("load", "m", "--use-case", name).exit_code == 0
    assert daemon.requests == [pb.LoadModelRequest(model="m", use_case=UseCase.Value(f"USE_CASE_{name.upper()}"))]


def test_a_use_case_of_no_such_name_is_misuse(daemon: FakeDaemon, run: Run) -> None:
    """Nothing is sent, and those there are are named."""
    result = run("load", "m", "--use-case", "chatting")

    assert result.exit_code == 2
    assert "production" in result.stderr
    assert daemon.requests == []


def test_json_is_one_message_a_line(daemon: FakeDaemon, run: Run) -> None:
    """Programs read progress and result as lines, and nothing else is said."""
    daemon.load = [weights(0.25), loaded()]

    result = run("load", "m", "-o", "json")

    first, last = (json.loads(line) for line in result.stdout.splitlines())
    assert first == {
        "progress": {"phase": "PHASE_LOADING_WEIGHTS", "weights_fraction": 0.25, "elapsed": "14.200s", "message": ""}
    }
    assert last["loaded"]["reused"] is False
    assert last["loaded"]["lease"]["name"] == LEASE
    assert result.stderr == ""


def test_progress_of_one_phase_is_no_flood(daemon: FakeDaemon, run: Run) -> None:
    """Where stderr is no terminal, fifty steps of one phase are a line each ten seconds."""
    steps = (
        progress(LoadProgress.PHASE_CAPTURING_GRAPHS, 30 + step / 2, f"capturing CUDA graphs {step}/51")
        for step in range(51)
    )
    daemon.load = [progress(LoadProgress.PHASE_COMPILING, 29), *steps, loaded()]

    lines = run("load", "m").stderr.splitlines()

    assert [line.split()[-1] for line in lines] == ["compiling", "0/51", "20/51", "40/51"]


def test_ctrl_c_cancels_the_load(daemon: FakeDaemon, spawn: Spawn) -> None:
    """SIGINT while the model loads reaches the daemon, and the exit code says so."""
    daemon.load = [weights(0.25), Hang()]
    process = spawn("load", "m")
    assert daemon.arrived.acquire(timeout=20)

    process.send_signal(signal.SIGINT)

    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.endswith("Cancelled.\n")
    assert daemon.cancelled.wait(5)


def test_held_load_releases_at_ctrl_c(daemon: FakeDaemon, spawn: Spawn) -> None:
    """With --hold, Ctrl-C is how it ends: the lease is released and the proof is printed."""
    daemon.load = [loaded(), Hang()]
    daemon.release = pb.ReleaseResponse(engine=stopped())
    process = spawn("load", "m", "--hold")
    assert process.stdout is not None
    head = [process.stdout.readline() for _ in range(6)]

    process.send_signal(signal.SIGINT)

    out, _ = process.communicate(timeout=20)
    assert "lasts   until Ctrl-C" in "".join(head)
    assert process.returncode == 0
    assert "qwen3-8b-3f2a is stopped." in out
    assert pb.ReleaseRequest(lease=LEASE) in daemon.requests


def test_held_load_ends_with_its_engine(daemon: FakeDaemon, run: Run) -> None:
    """An engine that dies under a held lease ends the command with the reason."""
    daemon.load = [loaded(), Refusal("ENGINE_DIED", "it died")]

    result = run("load", "m", "--hold")

    assert result.exit_code == 1
    assert "It died (ENGINE_DIED)" in result.stderr


def test_terminal_shows_a_bar(daemon: FakeDaemon, spawn: Spawn) -> None:
    """On a terminal the steps are one line that is drawn again."""
    daemon.load = [weights(0.25), Hang()]
    ours, theirs = pty.openpty()
    process = spawn("load", "Qwen/Qwen3-8B", stderr=theirs, stdout=subprocess.DEVNULL)

    seen = b""
    while b"25%" not in seen:
        seen += os.read(ours, 4096)

    assert "━".encode() in seen
    assert b"loading weights" in seen
    process.kill()
    os.close(ours)
    os.close(theirs)
