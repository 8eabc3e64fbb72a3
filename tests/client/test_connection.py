from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.fakes.fake_daemon import FakeDaemon, Hang
from tests.fakes.samples import status, tokens
from vllmd.client import Client, DaemonUnreachable


def test_closed_stream_is_cancelled(daemon: FakeDaemon, client: Client) -> None:
    """Closing a stream reaches the daemon, and the stream is at its end."""
    daemon.generate = [tokens()[0], Hang()]
    stream = client.generate("e", "x")
    next(stream)

    stream.close()

    assert daemon.cancelled.wait(5)
    assert list(stream) == []


def test_leaving_the_block_cancels(daemon: FakeDaemon, client: Client) -> None:
    """A `with` block cancels its stream however it is left."""
    daemon.generate = [Hang()]

    def fail() -> None:
        with client.generate("e", "x"):
            assert daemon.arrived.acquire(timeout=5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert daemon.cancelled.wait(5)


def test_stream_is_closed_from_another_thread(daemon: FakeDaemon, client: Client) -> None:
    """Who waits for the next response gets the end of the stream instead."""
    daemon.generate = [Hang()]
    stream = client.generate("e", "x")
    waiting = threading.Thread(target=lambda: list(stream))
    waiting.start()
    assert daemon.arrived.acquire(timeout=5)

    stream.close()

    waiting.join(5)
    assert not waiting.is_alive()


def test_client_that_leaves_cancels_its_streams(daemon: FakeDaemon) -> None:
    """The end of a client is the end of its calls."""
    daemon.generate = [tokens()[0], Hang()]

    with Client(daemon.target) as client:
        next(client.generate("e", "x"))

    assert daemon.cancelled.wait(5)


def test_call_waits_for_a_daemon_that_starts(tmp_path: Path) -> None:
    """With a connect timeout, a call outlasts the time until the daemon listens."""
    with Client(f"unix:{tmp_path}/vllmd.sock", connect_timeout=20) as client:
        answers: list[str] = []
        calling = threading.Thread(target=lambda: answers.append(client.status().host.hostname))
        calling.start()
        daemon = FakeDaemon(tmp_path)
        daemon.status = status()
        with daemon:
            calling.join(20)

    assert answers == ["gpu-host-3"]


def test_stream_waits_for_a_daemon_that_starts(tmp_path: Path) -> None:
    """Streams wait as other calls do."""
    with Client(f"unix:{tmp_path}/vllmd.sock", connect_timeout=20) as client:
        stream = client.generate("e", "x")
        daemon = FakeDaemon(tmp_path)
        daemon.generate = list(tokens())
        with daemon:
            texts = [response.text for response in stream]

    assert "".join(texts) == "Once upon a time"


def test_waiting_has_an_end(tmp_path: Path) -> None:
    """Where no daemon comes, waiting ends with DaemonUnreachable."""
    with Client(f"unix:{tmp_path}/vllmd.sock", connect_timeout=0.05) as client:
        with pytest.raises(DaemonUnreachable, match=r"waited 0\.05 s"):
            client.status()
