from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.doctor.judged import by_check, levels
from vllmd.doctor.listening import Daemon, ListeningFacts, Lock, judge

SOCKET = "/run/vllmd/vllmd.sock"
FREE = ListeningFacts(
    socket=SOCKET, path_bytes=len(SOCKET), kind=None, directory="/run/vllmd", directory_mode=0o750, own_version="1.0",
    engine_python="/opt/vllm/bin/python", locks=(Lock(path=f"{SOCKET}.lock", held=False),),
)  # fmt: skip
HELD = (Lock(path=f"{SOCKET}.lock", held=True, pid=42), Lock(path="/run/vllmd/vllmd.lock", held=True, pid=42))
SERVED = dataclasses.replace(FREE, kind="socket", mode=0o600, daemon=Daemon(version="1.0"), locks=HELD)


def test_a_host_on_which_none_runs() -> None:
    """Nobody is in the way of one."""
    assert levels(judge(FREE)) == {"socket": "ok", "daemon": "ok", "port": "ok"}


def test_a_daemon_that_serves() -> None:
    """It is told with its version and its pid."""
    found = by_check(judge(SERVED))

    assert levels(judge(SERVED)) == {"socket": "ok", "daemon": "ok", "port": "ok"}
    assert found["daemon"].found == "vllmd 1.0 answers (pid 42)"


@pytest.mark.parametrize(
    ("facts", "changes", "check", "level"),
    [
        (FREE, {"path_bytes": 120}, "socket", "fail"),
        (FREE, {"kind": "other"}, "socket", "fail"),
        (FREE, {"directory_mode": 0o777}, "socket", "fail"),
        (FREE, {"directory_mode": 0o1777}, "socket", "ok"),
        (FREE, {"kind": "socket"}, "daemon", "ok"),
        (FREE, {"locks": HELD}, "daemon", "fail"),
        (FREE, {"locks": (Lock(path="x", held=None),)}, "daemon", "unknown"),
        (SERVED, {"daemon": None, "denied": True}, "daemon", "unknown"),
        (SERVED, {"daemon": None, "why": "it hangs"}, "daemon", "fail"),
        (SERVED, {"daemon": Daemon(version="0.9")}, "daemon", "warn"),
        (SERVED, {"daemon": Daemon(version="")}, "daemon", "ok"),
        (SERVED, {"daemon": Daemon(version="1.0", engine_python="/usr/bin/python3")}, "daemon", "warn"),
        (SERVED, {"locks": (HELD[0], Lock(path="y", held=True, pid=43))}, "daemon", "fail"),
        (SERVED, {"mode": 0o666}, "socket", "warn"),
        (FREE, {"listen": "127.0.0.1:8765", "port_taken": True}, "port", "fail"),
        (FREE, {"listen": "127.0.0.1:8765", "port_taken": True, "locks": HELD}, "port", "ok"),
        (FREE, {"listen": "127.0.0.1:8765", "port_taken": False}, "port", "ok"),
        (FREE, {"listen": "127.0.0.1:8765", "port_taken": None}, "port", "unknown"),
        (SERVED, {"listen": "127.0.0.1:8765", "port_taken": True}, "port", "ok"),
        (SERVED, {"listen": "127.0.0.1:8765", "port_taken": False}, "port", "warn"),
    ],
)
def test_what_is_in_the_way(facts: ListeningFacts, changes: dict[str, Any], check: str, level: str) -> None:
    """One thing is otherwise, and the line about it says so."""
    assert levels(judge(dataclasses.replace(facts, **changes)))[check] == level


def test_two_daemons_are_named() -> None:
    """Whoever has to stop one is told both."""
    two = dataclasses.replace(SERVED, locks=(HELD[0], Lock(path="y", held=True, pid=43)))

    assert "pids 42, 43" in by_check(judge(two))["daemon"].found
