"""The units as they are written, and what a daemon and its engines are under them."""

from __future__ import annotations

import pathlib
import re
import time

from tests.systemd.unit import run, status_of, unit, until
from vllmd import __version__

KILL_AND_PTRACE = 1 << 5 | 1 << 19


def test_the_unit_is_clean() -> None:
    """systemd has nothing to say about it."""
    verified = run("systemd-analyze", "verify", "/usr/lib/systemd/system/vllmd.service")
    enabled = run("systemctl", "is-enabled", "vllmd").stdout.strip()

    assert enabled == "enabled"
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_the_unit_is_hardened() -> None:
    """By systemd's own reckoning, of which 10 is the worst."""
    told = run("systemd-analyze", "--no-pager", "security", "vllmd.service").stdout
    exposure = re.search(r"exposure level for vllmd.service: ([\d.]+)", told)
    assert exposure is not None, told
    print(exposure[0])

    assert float(exposure[1]) <= 3.0, told


def test_a_start_returns_when_it_serves() -> None:
    """Who starts it may connect at once; what it does is told in a line, and kept up."""
    begun = time.monotonic()
    with unit() as started:
        took = time.monotonic() - begun
        state = started.show("ActiveState")
        pid = started.status().host.pid
        idle = until(
            lambda: (text := started.show("StatusText")).startswith("no engines; 0.") and text, "the status", 5
        )
        started.load()
        busy = until(
            lambda: (text := started.show("StatusText")).startswith("1 engine READY") and text, "the new status", 5
        )
        print(f"start took {took:.2f} s; {idle!r}; {busy!r}")

        assert state == "active"
        assert idle.endswith(f"last: DAEMON: vllmd {__version__} is ready on /run/vllmd/vllmd.sock.")
        assert pid == started.pid
        assert re.match(r"1 engine READY; \d+\.\d of 48\.0 GiB on 2 GPUs; last: ENGINE: STARTING -> READY", busy)


def test_everybody_is_in_a_place_of_their_own() -> None:
    """The daemon in a leaf, and each engine in a cgroup, which its user may kill whole."""
    with unit() as started:
        loaded = started.load()
        engine_id = loaded.engine.name.removeprefix("engines/")
        (engine,) = started.cgroup.glob(f"vllmd-*/engine-{engine_id}")
        inside = {int(pid) for pid in (engine / "cgroup.procs").read_text().split()}
        own = [int(pid) for pid in (started.cgroup / "vllmd-daemon/cgroup.procs").read_text().split()]
        above = (started.cgroup / "cgroup.procs").read_text()
        killed = run("runuser", "-u", "vllmd", "--", "sh", "-c", f"echo 1 >{engine}/cgroup.kill")
        until(lambda: started.engine(loaded.engine.name).restart_count == 1, "the restart")

        assert own == [started.pid]
        assert above == ""
        assert loaded.engine.pid in inside
        assert len(inside) >= 2
        assert killed.returncode == 0, killed.stderr


def test_engines_have_no_power_and_no_word_of_the_daemons() -> None:
    """What the daemon needs to end orphans of other users, and to speak to systemd, is its own."""
    with unit() as started:
        loaded = started.load()
        (group,) = started.cgroup.glob("vllmd-*/engine-*")
        tree = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
        environment = pathlib.Path(f"/proc/{loaded.engine.pid}/environ").read_bytes().decode().split("\0")
        names = {line.partition("=")[0] for line in environment}
        sets = {name: int(status_of(started.pid, name), 16) for name in ("CapEff", "CapAmb", "CapBnd")}
        scores = {int(pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in tree}

        assert sets == {"CapEff": KILL_AND_PTRACE, "CapAmb": 0, "CapBnd": KILL_AND_PTRACE}
        assert {status_of(pid, name) for pid in tree for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
        assert scores == {300}
        assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "JOURNAL_STREAM"}
        assert status_of(started.pid, "Uid").split()[0] == status_of(loaded.engine.pid, "Uid").split()[0] != "0"
