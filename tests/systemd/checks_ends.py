"""How it ends: stopped, it leaves nothing; crashed or stuck, it comes back and goes on."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time

import grpc
import pytest

from tests.systemd.unit import ADOPTION_SECONDS, run, status_of, unit, until
from vllmd.v1 import engine_pb2


@pytest.mark.parametrize(("how", "result"), [(signal.SIGSTOP, "watchdog"), (signal.SIGKILL, "signal")])
def test_a_daemon_that_is_stuck_or_crashes_comes_back_to_its_engines(how: signal.Signals, result: str) -> None:
    """The watchdog ends one that is stuck; engines, leases and limits are what they were."""
    with unit(service="ExecStopPost=/bin/sh -c 'echo it was $SERVICE_RESULT'") as started:
        loaded = started.load()
        begun = time.monotonic()
        pid = started.restarted(started.kill(how))
        engine = started.engine(loaded.engine.name)
        took = time.monotonic() - begun
        *_, last = started.generate(loaded.lease.name, 5)
        print(f"{how.name}: back after {took:.1f} s")

        assert engine.adopted
        assert (engine.pid, engine.state) == (loaded.engine.pid, engine_pb2.Engine.STATE_READY)
        assert last.usage.completion_tokens == 5
        assert started.show("NRestarts") == "1"
        assert f"it was {result}" in started.journal()
        assert "engines stay for the next one" in started.journal()
        assert ("Fatal Python error: Aborted" in started.journal()) == (result == "watchdog")
        assert (started.cgroup / "vllmd-daemon/cgroup.procs").read_text().split() == [str(pid)]


def test_a_stop_leaves_nothing() -> None:
    """No process, file, shared memory or cgroup, nor what has left its engine's cgroup for another of the unit's."""
    with unit() as started, contextlib.ExitStack() as strays:
        started.load("one/model", fake_leave_core=True)
        started.load("another/model", fake_ignore_sigterm=True)
        during = started.left()
        run("runuser", "-u", "vllmd", "--", "mkdir", started.cgroup / "own")
        moved = [strays.enter_context(subprocess.Popen(["sleep", "600"])) for _ in range(2)]
        for stray, place in zip(moved, ("own", "vllmd-daemon"), strict=True):
            (started.cgroup / place / "cgroup.procs").write_text(str(stray.pid))
        begun = time.monotonic()
        stopped = started.systemctl("stop")
        print(f"stop took {time.monotonic() - begun:.1f} s")

        assert len(during) > 4
        assert [stray.wait(5) for stray in moved] == [-signal.SIGKILL] * 2
        assert stopped.returncode == 0
        assert started.left() == []
        assert started.show("Result") == "success"


def test_a_stop_may_take_longer_than_systemd_allows() -> None:
    """As long as the daemon asks for more time, and is not stuck: ended half-way it would prove nothing."""
    with unit(service="TimeoutStopSec=2") as started:
        started.load(fake_ignore_sigterm=True)
        begun = time.monotonic()
        started.systemctl("stop")
        took = time.monotonic() - begun
        print(f"stop took {took:.1f} s, of 2 s")

        assert took > 4
        assert started.show("Result") == "success"
        assert started.left() == []


def test_a_stop_during_which_the_daemon_dies_leaves_nothing() -> None:
    """What it had yet to end, systemd's last word for the unit does."""
    with unit() as started:
        loaded = started.load(fake_tokens_per_second=20)
        stream = started.generate(loaded.lease.name, 4000)
        next(stream)
        started.systemctl("stop", "--no-block")
        until(lambda: started.status().host.draining, "the drain")
        started.kill(signal.SIGKILL)
        with contextlib.suppress(grpc.RpcError):
            list(stream)
        until(lambda: started.show("ActiveState") in ("inactive", "failed"), "the end")

        assert started.left() == []


def test_a_stop_between_a_crash_and_the_restart_leaves_nothing_in_time() -> None:
    """systemd runs nothing of ours then: engines see that nobody answers for them, and end themselves."""
    with unit(service="RestartSec=60") as started:
        started.load()
        started.kill(signal.SIGKILL)
        until(lambda: started.show("SubState") == "auto-restart", "the wait for a restart")
        died = time.monotonic()
        started.systemctl("stop")
        state, during = started.show("ActiveState"), [line for line in started.left() if "VLLM::" in line]
        until(lambda: not [line for line in started.left() if not line.startswith("/run")], "the end", 20)
        took = time.monotonic() - died
        print(f"gone {took:.1f} s after the crash, of {ADOPTION_SECONDS:g} s; left: {started.left()}")

        assert state == "inactive"
        assert during
        assert took < ADOPTION_SECONDS + 5


def test_an_upgrade_keeps_process_engines_and_powers() -> None:
    """New code in the same process: for systemd nothing has ended."""
    with unit() as started:
        loaded = started.load()
        pid, begun = started.pid, time.monotonic()
        started.upgrade()
        took = time.monotonic() - begun
        until(lambda: started.show("ActiveState") == "active", "the end of the reload")
        engine = started.engine(loaded.engine.name)
        *_, last = started.generate(loaded.lease.name, 5)
        time.sleep(4)  # longer than the watchdog waits
        print(f"upgrade took {took:.2f} s")

        assert (started.pid, started.show("NRestarts")) == (pid, "0")
        assert (engine.adopted, engine.pid) == (True, loaded.engine.pid)
        assert last.usage.completion_tokens == 5
        assert int(status_of(pid, "CapEff"), 16) == 1 << 5 | 1 << 19
        assert int(status_of(pid, "CapAmb"), 16) == 0


def test_a_reload_keeps_everything() -> None:
    """Engines, connections, and a stream that runs meanwhile."""
    with unit() as started:
        loaded = started.load(fake_tokens_per_second=50)
        stream = started.generate(loaded.lease.name, 100)
        next(stream)
        begun, before = time.monotonic(), started.status().host.start_time
        reloaded = started.systemctl("reload")
        took = time.monotonic() - begun
        *_, last = stream
        print(f"reload took {took:.2f} s")

        assert reloaded.returncode == 0, reloaded.stderr
        assert started.show("ActiveState") == "active"
        assert last.usage.completion_tokens == 100
        assert started.status().host.start_time == before
        assert started.engine(loaded.engine.name).pid == loaded.engine.pid
