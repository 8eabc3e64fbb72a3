from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, not_found, upgrading
from tests.fakes.samples import stopped
from vllmd.v1.host_service_pb2 import StopEngineRequest, StopEngineResponse


def test_prints_what_was_given_back(daemon: FakeDaemon, run: Run) -> None:
    """Processes, memory before and after, seconds and the verdict are shown."""
    daemon.stop = StopEngineResponse(engine=stopped())

    result = run("stop", "qwen3-8b-3f2a")

    assert result.exit_code == 0
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "qwen3-8b-3f2a is stopped.",
        "processes 3 ended in 1.2s, 1 of them killed",
        "GPU-8f2c1a3b 63.0 GiB → 0.5 GiB in use, back after 310ms",
        "removed 1 leftover file",
        "verified yes: no process is left and NVML shows the memory back",
    ]


def test_unverified_end_fails(daemon: FakeDaemon, run: Run) -> None:
    """What is not proven to be gone is said loudly, and the exit code is 1."""
    daemon.stop = StopEngineResponse(engine=stopped(verified=False))

    result = run("stop", "qwen3-8b-3f2a")

    assert result.exit_code == 1
    assert "qwen3-8b-3f2a is NOT proven to be gone." in result.stdout
    assert "GPU memory did not come back" in result.stdout


def test_upgrade_meanwhile_is_no_failure(daemon: FakeDaemon, run: Run) -> None:
    """The engine is gone, as it was to be; no proof is made up."""
    daemon.refusals = [upgrading()]
    daemon.stop = not_found("engine", "engines/a-1")

    result = run("stop", "a-1")

    assert result.exit_code == 0
    assert result.stdout.startswith("a-1 is not there any more. Another daemon came meanwhile")
    assert "verified" not in result.stdout
    assert "quarantine" not in result.stdout


@pytest.mark.parametrize(("engine", "exit_code"), [("engines/a-1", 1), ("engines/b-2", 0)])
def test_memory_that_an_earlier_daemon_left_is_a_failure(
    daemon: FakeDaemon, run: Run, engine: str, exit_code: int
) -> None:
    """The engine is gone, and a GPU is in quarantine for it; one that is for another does not matter."""
    daemon.refusals = [upgrading()]
    daemon.stop = not_found("engine", "engines/a-1")
    daemon.status.gpus.add(index=1).quarantine.engine = engine

    result = run("stop", "a-1")

    assert result.exit_code == exit_code
    assert ("It is NOT proven to be gone: GPU 1 is in quarantine." in result.stdout) == bool(exit_code)


def test_force_and_full_name(daemon: FakeDaemon, run: Run) -> None:
    """The full name works as well, and --force is passed on."""
    daemon.stop = StopEngineResponse(engine=stopped())

    run("stop", "engines/a-1", "--force")

    assert daemon.requests[0] == StopEngineRequest(name="engines/a-1", force=True)


def test_json_fails_as_well(daemon: FakeDaemon, run: Run) -> None:
    """The exit code does not depend on the form of the output."""
    daemon.stop = StopEngineResponse(engine=stopped(verified=False))

    result = run("stop", "a-1", "-o", "json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["engine"]["state"] == "STATE_FAILED"
