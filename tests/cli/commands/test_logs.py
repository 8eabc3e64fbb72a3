from __future__ import annotations

import json
import signal

from tests.cli.conftest import Run, Spawn
from tests.fakes.fake_daemon import FakeDaemon, Hang
from vllmd.v1.host_service_pb2 import TailLogsRequest, TailLogsResponse


def test_lines_on_stdout(daemon: FakeDaemon, run: Run) -> None:
    """Lines come as they are, as many as wished."""
    daemon.logs = [TailLogsResponse(lines=["a", "b"]), TailLogsResponse(lines=["[c]"])]

    assert run("logs", "e", "-n", "3").stdout == "a\nb\n[c]\n"
    assert daemon.requests == [TailLogsRequest(name="engines/e", lines=3)]


def test_json(daemon: FakeDaemon, run: Run) -> None:
    """Programs get each line as a message with one."""
    daemon.logs = [TailLogsResponse(lines=["a", "b"])]

    found = [json.loads(line) for line in run("logs", "e", "-o", "json").stdout.splitlines()]

    assert found == [{"lines": ["a"]}, {"lines": ["b"]}]


def test_following_ends_with_ctrl_c(daemon: FakeDaemon, spawn: Spawn) -> None:
    """Lines are there as soon as they come, and SIGINT ends the stream."""
    daemon.logs = [TailLogsResponse(lines=["a"]), Hang()]
    process = spawn("logs", "e", "-f")
    assert process.stdout is not None
    assert process.stdout.readline() == "a\n"

    process.send_signal(signal.SIGINT)

    assert process.wait(20) == 130
    assert daemon.cancelled.wait(5)
