from __future__ import annotations

import json
import signal

from tests.cli.conftest import Run, Spawn
from tests.fakes.fake_daemon import FakeDaemon, Hang
from tests.fakes.host_samples import SECOND_GPU, events
from tests.fakes.samples import GPU, status
from tests.fakes.terminal import at_terminal
from vllmd.v1.event_pb2 import Event
from vllmd.v1.host_service_pb2 import ListGpusResponse, WatchEventsRequest, WatchEventsResponse


def test_what_happened_and_why(daemon: FakeDaemon, run: Run) -> None:
    """A line for each event, and one for each reason."""
    daemon.events = [events()]

    lines = run("events", "-n", "5").stdout.splitlines()

    assert daemon.requests == [WatchEventsRequest(last=5)]
    assert [line[21:] for line in lines] == [
        "VERDICT         VLLM::Worker_TP (pid 3412991) is FOREIGN_ORPHAN, and was SUSPECT.",
        "                because its parent (pid 77, vllm) was seen alive and then dead",
        "QUARANTINE END  GPU 1 is used again.",
    ]


def test_whom_it_is_about(daemon: FakeDaemon, run: Run) -> None:
    """Engine, GPUs by number, and processes, as far as the message does not name them."""
    daemon.gpus = ListGpusResponse(gpus=status().gpus)
    state = Event(kind=Event.KIND_ENGINE, message="STARTING -> READY", engine="engines/qwen3-8b-3f2a")
    kill = Event(
        kind=Event.KIND_KILL, message="GPU 0: pid 1 was killed.", gpus=[GPU, SECOND_GPU], pids=[1, *range(11, 21)]
    )
    daemon.events = [WatchEventsResponse(events=[state, kill])]

    lines = run("events").stdout.splitlines()

    assert [line[21:] for line in lines] == [
        "ENGINE          qwen3-8b-3f2a: STARTING -> READY",
        "KILL            GPU 0: pid 1 was killed.",
        "                GPU 1; pids 11, 12, 13, 14, 15, 16, 17, 18 and 2 more",
    ]


def test_gpus_in_messages_have_numbers(daemon: FakeDaemon, run: Run) -> None:
    """Nobody knows UUIDs by heart."""
    daemon.gpus = ListGpusResponse(gpus=status().gpus)
    message = f"1.00 GiB of GPU {GPU.removeprefix('gpus/')} are in use, and no process holds them."
    daemon.events = [WatchEventsResponse(events=[Event(kind=Event.KIND_LEAK, message=message, gpus=[GPU])])]

    lines = run("events").stdout.splitlines()

    assert [line[37:] for line in lines] == ["1.00 GiB of GPU 0 are in use, and no process holds them."]


def test_lines_are_no_longer_than_a_terminal(daemon: FakeDaemon) -> None:
    """What does not fit goes on below where it began."""
    daemon.events = [events()]
    with at_terminal("events", VLLMD_ADDRESS=daemon.target) as terminal:
        lines = terminal.end()[1].splitlines()

    assert max(map(len, lines)) <= 80
    assert [line[37:] for line in lines[:2]] == ["VLLM::Worker_TP (pid 3412991) is", "FOREIGN_ORPHAN, and was SUSPECT."]


def test_what_was_missed_is_said(daemon: FakeDaemon, run: Run) -> None:
    """Not among the events, which a program may read."""
    daemon.events = [events(missed=3), events(), events(missed=1)]

    result = run("events")

    assert [line[2:17] for line in result.stderr.splitlines()] == ["3 events missed", "1 event missed:"]
    assert "missed" not in result.stdout


def test_json_is_an_event_a_line(daemon: FakeDaemon, run: Run) -> None:
    """By the names of the proto."""
    daemon.events = [events()]

    found = [json.loads(line) for line in run("events", "-o", "json").stdout.splitlines()]

    assert [one["kind"] for one in found] == ["KIND_VERDICT", "KIND_QUARANTINE_END"]


def test_following_ends_with_ctrl_c(daemon: FakeDaemon, spawn: Spawn) -> None:
    """Events are there as soon as they come, and SIGINT ends the stream."""
    daemon.events = [events(), Hang()]
    process = spawn("events", "-f")
    assert process.stdout is not None
    assert "VERDICT" in process.stdout.readline()

    process.send_signal(signal.SIGINT)

    assert process.wait(20) == 130
    assert daemon.cancelled.wait(5)
    assert daemon.requests == [WatchEventsRequest(last=20, follow=True)]
