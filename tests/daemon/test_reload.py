"""What a reload does to a daemon that runs: real daemons with the fake engine."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.host.running import Home, RunningDaemon, home, until
from vllmd.config import Rules, Settings
from vllmd.configuration.catalog import BY_RESTART, BY_UPGRADE
from vllmd.configuration.reading import Reading, Sources
from vllmd.daemon import build
from vllmd.daemon.reload import Reloading, changes, differing
from vllmd.v1 import engine_pb2, engine_service_pb2, event_pb2, host_service_pb2

NEEDED: dict[str, Any] = dict.fromkeys(("socket", "runtime_dir", "state_dir", "cache_dir"), Path("/a"))


def test_what_changes_is_told_by_name_with_both_values() -> None:
    """Engine arguments one by one, and secrets not at all."""
    before = Rules(use_case=None, engine_args={"seed": 1, "dtype": "half", "hf_token": "hf_one"})
    after = Rules(idle_timeout=600, use_case="debate", engine_args={"seed": 2, "hf_token": "hf_two", "max_num_seqs": 3})

    assert changes(before, before) == []
    assert changes(before, after) == [
        "idle_timeout 0 -> 600",
        'use_case not set -> "debate"',
        "engine_args.seed 1 -> 2",
        'engine_args.dtype "half" -> not set',
        'engine_args.hf_token "(hidden)" -> "(hidden)"',
        "engine_args.max_num_seqs not set -> 3",
    ]


def test_what_can_not_change_is_named() -> None:
    """By what it takes."""
    start = Settings(**NEEDED)
    wanted = start.model_copy(update={"listen": "127.0.0.1:1", "backend": "fake", "idle_timeout": 5.0, "socket": "/b"})

    assert differing(start, wanted, BY_UPGRADE) == ["listen", "socket"]
    assert differing(start, wanted, BY_RESTART) == ["backend"]


class Configured:
    """A daemon with a configuration file."""

    def __init__(self, place: Home) -> None:
        self.place = place
        self.file = place.path / "vllmd.toml"
        self.daemon: RunningDaemon

    def start(self, text: str) -> RunningDaemon:
        self.write(text)
        self.daemon = self.place.start("--config", str(self.file))
        return self.daemon

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def told(self) -> list[event_pb2.Event]:
        """What the daemon said about itself."""
        answers = self.daemon.host.WatchEvents(host_service_pb2.WatchEventsRequest(last=1000))
        events = [event for answer in answers for event in answer.events]
        return [event for event in events if event.kind == event_pb2.Event.KIND_DAEMON]

    def reload(self, text: str, waits_for: str = "The configuration was read again") -> event_pb2.Event:
        """Write the file anew and have it read; returns what was told of it."""
        before = len(self.told())
        self.write(text)
        self.daemon.process.send_signal(signal.SIGHUP)

        def news() -> event_pb2.Event | None:
            return next((event for event in self.told()[before:] if waits_for in event.message), None)

        found: event_pb2.Event = until(news, waits_for)
        return found


@contextlib.contextmanager
def configured(*options: str) -> Iterator[Configured]:
    with home(*options) as place:
        yield Configured(place)


def test_a_running_stream_and_its_connection_survive_a_reload() -> None:
    """The tokens go on, the engine is the same, and so is the daemon."""
    with configured("--backend", "fake") as one:
        daemon = one.start("idle_timeout = 0\n")
        loaded = daemon.load(fake_tokens_per_second=200)
        stream = daemon.generate(loaded.engine.name, 100)
        first = next(stream)
        states: list[grpc.ChannelConnectivity] = []
        daemon.channel.subscribe(states.append)
        event = one.reload("idle_timeout = 600\nstop_grace = 3\n")
        *rest, last = stream
        after = daemon.engine(loaded.engine.name)

        assert event.message == "The configuration was read again: idle_timeout 0 -> 600, stop_grace 10 -> 3."
        assert not first.HasField("usage")
        assert len(rest) > 0
        assert last.usage.completion_tokens == 100
        assert (after.pid, after.state) == (loaded.engine.pid, engine_pb2.Engine.STATE_READY)
        assert set(states) <= {grpc.ChannelConnectivity.READY}
        assert daemon.process.poll() is None


def test_an_idle_engine_stays_as_long_as_is_now_the_rule() -> None:
    """Also if it is idle already; the time counts from when it became idle."""
    with configured("--backend", "fake") as one:
        daemon = one.start("idle_timeout = 3600\n")
        loaded = daemon.load()
        daemon.engines.Release(engine_service_pb2.ReleaseRequest(lease=loaded.lease.name), timeout=30)
        one.reload("idle_timeout = 3500\n")
        still = daemon.engine(loaded.engine.name).state
        one.reload("idle_timeout = 0.05\n")
        until(lambda: gone(daemon, loaded.engine.name), "the end of the idle engine")

        assert still == engine_pb2.Engine.STATE_READY


def gone(daemon: RunningDaemon, name: str) -> bool:
    try:
        return daemon.engine(name).state == engine_pb2.Engine.STATE_STOPPED
    except grpc.RpcError as error:
        return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND


def test_a_broken_file_leaves_everything_as_it_was() -> None:
    """Every mistake is in the log and in the event; mended, it counts."""
    with configured("--backend", "fake") as one:
        daemon = one.start("lease_ttl = 60\n")
        broken = one.reload("lease_tll = 5\nidle_timeout = -1\n", "The configuration stays as it was")
        before = daemon.load().lease
        mended = one.reload("lease_ttl = 5\n")
        after = daemon.load().lease
        log = daemon.log.read_text()
        problems = [
            f"{one.file}:1: lease_tll: there is no such setting; the nearest is lease_ttl",
            f"{one.file}:2: idle_timeout: must be a number of seconds of at least 0, and is -1",
        ]

        assert broken.message == "The configuration stays as it was: it has 2 errors."
        assert list(broken.reasons) == problems
        assert all(f"ERROR vllmd: {problem}" in log for problem in problems)
        assert mended.message == "The configuration was read again: lease_ttl 60 -> 5."
        assert (before.ttl.seconds, after.ttl.seconds) == (60, 5)


def test_what_a_reload_can_not_change_is_told_and_stays() -> None:
    """With what it takes instead; an upgrade that would lose the engines is none, and one that would not is."""
    with configured("--simulate", "1xL4") as one:
        daemon = one.start("")
        loaded = daemon.load()
        text = 'engine_python = "python-of-tomorrow"\ncontainment = "session"\nsocket_mode = "660"\n'
        restart = one.reload(text, "a restart")
        (upgrade,) = [event for event in one.told() if "an upgrade (SIGUSR2)" in event.message]
        daemon.process.send_signal(signal.SIGUSR2)
        until(lambda: "Not upgraded: engines would be lost" in daemon.log.read_text(), "the refusal")
        mode_before = daemon.users_socket.stat().st_mode & 0o777
        one.write('socket_mode = "660"\n')
        daemon.upgrade()

        assert restart.message == "containment needs a restart, and stays as at the start."
        assert upgrade.message == "engine_python, socket_mode need an upgrade (SIGUSR2), and stay as at the start."
        assert (mode_before, daemon.users_socket.stat().st_mode & 0o777) == (0o600, 0o660)
        assert daemon.engine(loaded.engine.name).pid == loaded.engine.pid


def test_an_upgrade_to_a_broken_configuration_is_none() -> None:
    """The new program would not start; mended, it is executed, and its configuration counts."""
    with configured("--backend", "fake") as one:
        daemon = one.start("lease_ttl = 60\n")
        loaded = daemon.load()
        one.write("lease_tll = 5\n")
        daemon.process.send_signal(signal.SIGUSR2)
        until(lambda: "Not upgraded: the new program does not start" in daemon.log.read_text(), "the refusal")
        problem = f"{one.file}:1: lease_tll: there is no such setting; the nearest is lease_ttl"
        log = daemon.log.read_text()
        one.write("lease_ttl = 5\n")
        daemon.upgrade()

        assert problem in log
        assert daemon.load().lease.ttl.seconds == 5
        assert daemon.engine(loaded.engine.name).pid == loaded.engine.pid


def test_a_file_that_is_not_there_yet_counts_once_it_is() -> None:
    """And a drop-in, and not any more once it is gone."""
    with home("--backend", "fake") as place:
        one = Configured(place)
        one.daemon = place.start(environment={"VLLMD_STOP_GRACE": "3"})
        made = one.reload("lease_ttl = 5\nstop_grace = 4\n")
        beside = place.path / "vllmd.toml.d"
        beside.mkdir()
        (beside / "site.toml").write_text("lease_ttl = 6\n")
        added = one.reload("lease_ttl = 5\n")
        (beside / "site.toml").unlink()
        gone_again = one.reload("")

        assert [event.message.partition(": ")[2] for event in (made, added, gone_again)] == [
            "lease_ttl 300 -> 5.",
            "lease_ttl 5 -> 6.",
            "lease_ttl 6 -> 300.",
        ]


def test_rules_of_all_parts_are_those_of_the_last_reload() -> None:
    """The scheduler's, the watchdog's and the log's; flags count over the file still."""
    with configured("--simulate", "1xL4", "--stop-grace", "3") as one:
        daemon = one.start('log_level = "info"\n')
        text = (
            'log_level = "warning"\nforeign_orphans = "report"\norphan_grace = 77\nstop_grace = 4\n'
            'allowed_engine_args = ["hf_overrides"]\n[engine_args]\nseed = 7\n'
        )
        with pytest.raises(grpc.RpcError):
            daemon.load(hf_overrides={})
        event = one.reload(text)
        loaded = daemon.load(hf_overrides={})
        processes = daemon.host.ListGpuProcesses(host_service_pb2.ListGpuProcessesRequest())

        assert "stop_grace" not in event.message
        assert processes.foreign_orphan_policy == "report"
        assert processes.grace.seconds == 77
        assert loaded.engine.name
        assert "The configuration was read again" not in daemon.log.read_text()  # at info, which is not told any more


class Failing(Sources):
    """Sources that can't even be read, by a mistake of ours."""

    def read(self) -> Reading:
        raise RuntimeError("a mistake")


async def test_whatever_goes_wrong_leaves_everything_as_it_was(runtime: Path) -> None:
    """The daemon goes on, and says what it was; an upgrade is not forbidden by it."""
    places: dict[str, Any] = {
        "socket": runtime / "s",
        "runtime_dir": runtime,
        "cache_dir": runtime / "c",
        "state_dir": runtime / "st",
    }
    start = Settings(**{"backend": "fake", "lease_ttl": 60.0, **places})
    build.make_directories(start)
    async with contextlib.AsyncExitStack() as cleanup:
        parts = build.build(start, cleanup)
        reloading = Reloading(start, Failing(), parts)
        await reloading.reload()
        forbidden = await reloading.forbids_upgrade()
        (event,), _ = parts.events.after(0)

        assert not forbidden
        assert parts.ground.rules == start
        assert event.message == "The configuration stays as it was: it can't be read."
        assert event.reasons == ("RuntimeError: a mistake",)
