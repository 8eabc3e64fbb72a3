from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_daemon import FakeDaemon, Hang, upgrading
from tests.fakes.samples import status, stopped, tokens
from vllmd.client import Client, DaemonUnreachable, VllmdError
from vllmd.client.retries import RESTART_SECONDS
from vllmd.v1.host_service_pb2 import StopEngineResponse


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


def test_unary_call_that_meets_an_upgrade_is_made_again(daemon: FakeDaemon, client: Client) -> None:
    """At the time that the daemon names, also by a client whose first call it is."""
    daemon.refusals = [upgrading(), upgrading()]
    daemon.stop = StopEngineResponse(engine=stopped())

    assert client.stop("a-1").reclaim.verified
    assert len(daemon.requests) == 3


def test_a_daemon_that_says_the_same_for_ever_is_believed(daemon: FakeDaemon, client: Client) -> None:
    """The last refusal is raised, and knows of the one before it."""
    daemon.stop = upgrading()

    with pytest.raises(VllmdError, match="UPGRADING") as caught:
        client.stop("a-1")

    assert len(daemon.requests) == 3
    assert caught.value.earlier is not None


@pytest.mark.parametrize(("retry_seconds", "timeout"), [(RESTART_SECONDS, None), (5, 4.0)])
def test_time_that_is_too_far_off_is_not_waited_for(
    daemon: FakeDaemon, client: Client, retry_seconds: float, timeout: float | None
) -> None:
    """Beyond what an upgrade takes, or what the caller has: it is told, and decides."""
    daemon.stop = upgrading(int(retry_seconds))

    with pytest.raises(VllmdError, match="UPGRADING"):
        client.stop("a-1", timeout=timeout)

    assert len(daemon.requests) == 1


def test_what_must_not_be_done_twice_is_not(daemon: FakeDaemon, client: Client) -> None:
    """A confirmed reclaim kills, and a stream has begun; a dry run is as good the second time."""
    daemon.refusals = [upgrading(), upgrading()]
    daemon.generate = [upgrading()]

    with pytest.raises(VllmdError, match="UPGRADING"):
        client.reclaim(confirmed=True)
    with pytest.raises(VllmdError, match="UPGRADING"):
        list(client.generate("e", "x"))
    client.reclaim()

    assert len(daemon.requests) == 4


def test_a_daemon_that_dies_during_a_call_for_good_may_have_heard_it(daemon: FakeDaemon, client: Client) -> None:
    """That none comes back is no word that trying again is safe."""
    daemon.release = Hang()
    caught: list[VllmdError] = []

    def release() -> None:
        with pytest.raises(DaemonUnreachable, match="broke") as error:
            client.release("x", timeout=0.5)
        caught.append(error.value)

    calling = threading.Thread(target=release)
    calling.start()
    assert daemon.arrived.acquire(timeout=5)
    daemon.close()
    calling.join(20)

    assert [error.request_sent for error in caught] == [True]


def test_time_of_another_type_is_named(client: Client) -> None:
    """Of a stream when it is made."""
    wrong: Any = "3"
    with pytest.raises(TypeError, match="timeout is a number of seconds, not '3'"):
        client.generate("e", "x", timeout=wrong)
