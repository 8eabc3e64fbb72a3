"""What a client of an older program's call sees of an upgrade: our own, nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.host.running import DEADLINE_SECONDS, RunningDaemon, home, until
from vllmd.v1 import engine_pb2, event_pb2, host_service_pb2
from vllmd.v1 import engine_service_pb2 as pb


def cli(daemon: RunningDaemon, *arguments: str) -> subprocess.Popen[str]:
    """Begin a command of `vllmd-cli`."""
    command = [sys.executable, "-m", "vllmd.cli", *arguments]
    environment = os.environ | {"VLLMD_ADDRESS": str(daemon.socket)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("command", ["release", "stop"])
def test_a_command_that_waits_for_an_end_outlasts_an_upgrade(command: str) -> None:
    """The engine is slow to end; the new program ends it as it starts, and tells."""
    with home("--backend", "fake", "--stop-grace", "600") as place:
        daemon = place.start()
        loaded = daemon.load(fake_ignore_sigterm=True)
        name = loaded.engine.name
        waiting = cli(daemon, command, loaded.lease.name if command == "release" else name)
        stopping = engine_pb2.Engine.STATE_STOPPING
        until(lambda: daemon.engine(name).state == stopping or waiting.poll() is not None, "the engine's end")
        daemon.upgrade()
        told, errors = waiting.communicate(timeout=DEADLINE_SECONDS)
        events = [
            event
            for update in daemon.host.WatchEvents(host_service_pb2.WatchEventsRequest(last=100))
            for event in update.events
            if event.engine == name
        ]

        assert (waiting.returncode, errors) == (0, "")
        assert "The daemon was upgraded meanwhile" in told
        assert list(daemon.engines.ListEngines(pb.ListEnginesRequest()).engines) == []
        assert [event.kind for event in events] == [event_pb2.Event.KIND_KILL, event_pb2.Event.KIND_RECLAIM]
        assert place.leftovers(name) == []
