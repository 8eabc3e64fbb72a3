from __future__ import annotations

import grpc
import pytest

from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal
from tests.fakes.samples import progress
from vllmd.client import Client, DaemonUnreachable, VllmdError
from vllmd.client.errors import from_status
from vllmd.v1.engine_pb2 import LoadProgress


def test_every_detail_arrives(daemon: FakeDaemon, client: Client) -> None:
    """Reason, message, metadata, retry delay, log lines and field violations survive the wire."""
    daemon.stop = Refusal(
        "GPU_MEMORY_EXHAUSTED",
        "needs 17.2 GiB and 9.4 GiB is free",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        metadata={"required_bytes": "18468109517"},
        retry_seconds=3,
        log_lines=["a", "b"],
        violations=[("name", "is odd")],
    )

    with pytest.raises(VllmdError) as caught:
        client.stop("x")

    error = caught.value
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.reason == "GPU_MEMORY_EXHAUSTED"
    assert error.message == "needs 17.2 GiB and 9.4 GiB is free"
    assert error.metadata == {"required_bytes": "18468109517"}
    assert error.retry_after == 3.0
    assert error.log_lines == ("a", "b")
    assert error.violations == (("name", "is odd"),)
    assert str(error) == "needs 17.2 GiB and 9.4 GiB is free (GPU_MEMORY_EXHAUSTED)"


def test_long_log_tail_fits_into_an_error(daemon: FakeDaemon, client: Client) -> None:
    """A hundred log lines come with an error, although gRPC by itself refuses more than 8 KiB of trailers."""
    daemon.stop = Refusal("ENGINE_DIED", "it died", log_lines=["x" * 120] * 100)

    with pytest.raises(VllmdError) as caught:
        client.stop("x")

    assert len(caught.value.log_lines) == 100


def test_reason_of_another_domain_is_not_ours() -> None:
    """A proxy's ErrorInfo gives no reason of vllmd's; the code's name stands in."""
    status = Refusal("QUOTA", "too much", grpc.StatusCode.UNAVAILABLE, domain="proxy.example").status()

    assert from_status(grpc.StatusCode.UNAVAILABLE, status).reason == "UNAVAILABLE"


def test_unavailable_from_the_daemon_is_no_unreachable_daemon(daemon: FakeDaemon, client: Client) -> None:
    """A daemon that says it is draining has been reached."""
    daemon.stop = Refusal("DRAINING", "the daemon is draining", grpc.StatusCode.UNAVAILABLE, retry_seconds=60)

    with pytest.raises(VllmdError) as caught:
        client.stop("x")

    assert not isinstance(caught.value, DaemonUnreachable)


@pytest.mark.parametrize(
    ("details", "words", "request_sent"),
    [
        ("failed to connect to all addresses; last error: UNKNOWN: No such file", "there is no such socket", False),
        ("failed to connect to all addresses; last error: Connection refused", "nobody listens there", False),
        ("failed to connect to all addresses; last error: Permission denied", "permission denied", False),
        ("errors resolving nohost:5", "can't be resolved", False),
        ("Socket closed", "broke", True),
        ("something new", "something new", True),
    ],
)
def test_unreachable_in_words(details: str, words: str, request_sent: bool) -> None:
    """Each way not to reach a daemon is told apart, and whether it may have seen the request."""
    error = DaemonUnreachable.from_details("unix:/a.sock", details)

    assert words in error.message
    assert "unix:/a.sock" in error.message
    assert error.request_sent is request_sent


def test_daemon_that_dies_breaks_its_streams(daemon: FakeDaemon, client: Client) -> None:
    """A stream whose daemon goes away ends with DaemonUnreachable."""
    daemon.load = [progress(LoadProgress.PHASE_SPAWNING, 0.1), Hang()]

    with pytest.raises(VllmdError) as caught:
        client.load("m", on_progress=lambda _: daemon.close())

    assert caught.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_no_daemon(client: Client, daemon: FakeDaemon) -> None:
    """Without a daemon, every call says so at once."""
    daemon.close()

    with pytest.raises(DaemonUnreachable) as caught:
        client.status()

    assert caught.value.target == daemon.target
