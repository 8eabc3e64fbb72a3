"""What a client of an older program's call sees of an upgrade: our own, nothing."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.host.running import DEADLINE_SECONDS, RunningDaemon, cores_of, home, until
from vllmd.v1 import engine_pb2, event_pb2, host_service_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.worker.processes import signal_to

OPERATORS = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP}


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
        assert "Another daemon came meanwhile" in told
        assert list(daemon.engines.ListEngines(pb.ListEnginesRequest()).engines) == []
        assert [event.kind for event in events] == [event_pb2.Event.KIND_KILL, event_pb2.Event.KIND_RECLAIM]
        assert place.leftovers(name) == []


def blocked(thread: pathlib.Path) -> set[int]:
    """The signals that a thread of `/proc` blocks."""
    (mask,) = (line.split()[1] for line in (thread / "status").read_text().splitlines() if line.startswith("SigBlk:"))
    return {signum for signum in OPERATORS if int(mask, 16) & 1 << signum - 1}


def test_no_thread_of_the_daemon_takes_a_signal_and_every_engine_does() -> None:
    """Those of gRPC and NVML included, for the time when nobody reads signals; an engine is to heed SIGTERM."""
    with home("--simulate", "1xL4") as place:
        daemon = place.start()
        name = daemon.load().engine.name
        list(daemon.generate(name, 2))
        threads = [blocked(path) for path in pathlib.Path(f"/proc/{daemon.process.pid}/task").iterdir()]
        engine = [blocked(pathlib.Path(f"/proc/{one.pid}")) for one in place.engine_processes()]

        assert len(threads) > 3
        assert all(mask == OPERATORS for mask in threads)
        assert len(engine) == 2
        assert all(mask == set() for mask in engine)


def test_a_stop_that_comes_during_an_upgrade_is_heeded() -> None:
    """By whichever program: the daemon ends well, and so do its engines."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        name = daemon.load().engine.name
        daemon.process.send_signal(signal.SIGUSR2)
        until(lambda: "engines stay" in daemon.log.read_text(), "the end of the first program")
        daemon.process.send_signal(signal.SIGTERM)

        assert daemon.process.wait(DEADLINE_SECONDS) == 0
        assert place.leftovers(name) == []


def test_an_upgrade_that_would_lose_engines_is_none() -> None:
    """Where the journal can't be written, as on a full disk, the daemon stays what it is."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        loaded = daemon.load()
        before = daemon.status().host.start_time
        (journal,) = (place.path / "state").glob("*.json")
        in_the_way = journal.with_name(f"{journal.name}.new")
        in_the_way.mkdir()
        daemon.process.send_signal(signal.SIGUSR2)
        until(lambda: "Not upgraded: the journal can't be written" in daemon.log.read_text(), "the refusal")
        *_, last = daemon.generate(loaded.engine.name, 5)
        after = daemon.status().host.start_time
        in_the_way.rmdir()
        daemon.upgrade()

        assert before == after
        assert last.usage.completion_tokens == 5
        assert daemon.engine(loaded.engine.name).pid == loaded.engine.pid


def test_who_is_stopped_by_an_operator_stays_so_over_an_upgrade() -> None:
    """The daemon left it well: it is nothing that was being ended."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        loaded = daemon.load(fake_workers=1)
        (core,) = cores_of(loaded.engine.pid)
        signal_to(core, signal.SIGSTOP)
        daemon.upgrade()
        signal_to(core, signal.SIGCONT)
        until(lambda: daemon.engine(loaded.engine.name).state == engine_pb2.Engine.STATE_READY, "the engine")
        *_, last = daemon.generate(loaded.engine.name, 5)

        assert daemon.engine(loaded.engine.name).pid == loaded.engine.pid
        assert last.usage.completion_tokens == 5
