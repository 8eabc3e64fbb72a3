from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import status
from vllmd.config import Settings
from vllmd.doctor.facts import listening


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A daemon's, with everything below one directory."""
    return Settings(
        socket=tmp_path / "vllmd.sock", runtime_dir=tmp_path, state_dir=tmp_path, cache_dir=tmp_path,
        engine_python=Path("/opt/python"),
    )  # fmt: skip


def test_nothing_is_there(settings: Settings) -> None:
    """Nobody holds a lock, and nothing is at the socket's place."""
    facts = listening.look(settings)

    assert (facts.kind, facts.daemon, facts.port_taken) == (None, None, None)
    assert [lock.held for lock in facts.locks] == [False, False]
    assert facts.engine_python == "/opt/python"


def test_a_daemon_is_asked_for_its_version(settings: Settings, tmp_path: Path) -> None:
    """It tells that, and which interpreter it has for its engines."""
    with FakeDaemon(tmp_path) as daemon:
        daemon.status = status()
        facts = listening.look(settings)

    assert facts.kind == "socket"
    assert facts.daemon is not None
    assert facts.daemon.version == daemon.status.host.version


def test_a_socket_that_a_dead_daemon_left(settings: Settings) -> None:
    """Nobody answers, which needs no reason."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(settings.socket))
    facts = listening.look(settings)

    assert (facts.kind, facts.daemon, facts.why) == ("socket", None, "")


def test_somebody_who_does_not_answer(settings: Settings) -> None:
    """The doctor waits no longer than it says."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(settings.socket))
        silent.listen()
        daemon, why = listening.ask(settings.socket, seconds=0.3)

    assert daemon is None
    assert why in ("", "no answer within 0.3 seconds")


def test_something_else_at_the_sockets_place(settings: Settings) -> None:
    """A plain file is told apart, and not connected to."""
    settings.socket.touch()

    assert listening.look(settings).kind == "other"


def test_a_lock_that_is_held(settings: Settings, tmp_path: Path) -> None:
    """Its holder is named, for the socket and the directory alike."""
    with (tmp_path / "vllmd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        of_socket, of_directory = listening.look(settings).locks

    assert (of_socket.held, of_directory.held) == (False, True)
    assert of_directory.pid == os.getpid()


def test_a_port(settings: Settings) -> None:
    """It is taken while somebody listens on it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert listening.port_taken(address) is True

    assert listening.port_taken(address) is False
    assert listening.port_taken("nonsense") is None
