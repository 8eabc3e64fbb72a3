from __future__ import annotations

import dataclasses
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc import code_pb2

from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal
from tests.fakes.samples import progress
from vllmd.client import (
    Cancelled,
    Client,
    DaemonUnreachable,
    DeadlineExceeded,
    Denied,
    EngineFailed,
    Exhausted,
    InvalidRequest,
    NotFound,
    NotPossible,
    Unauthenticated,
    Unavailable,
    VllmdError,
)
from vllmd.client.translation import from_call, from_failure, from_status, unreachable
from vllmd.v1 import engine_pb2
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
    error = unreachable("unix:/a.sock", details)

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


@pytest.mark.parametrize(
    ("code", "by_the_daemon", "by_grpc"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest, InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, NotFound, NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, NotPossible, NotPossible),
        (grpc.StatusCode.UNIMPLEMENTED, NotPossible, NotPossible),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Exhausted, Exhausted),
        (grpc.StatusCode.PERMISSION_DENIED, Denied, Denied),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated, Unauthenticated),
        (grpc.StatusCode.UNAVAILABLE, Unavailable, Unavailable),
        (grpc.StatusCode.ABORTED, Unavailable, Unavailable),
        (grpc.StatusCode.CANCELLED, Cancelled, Cancelled),
        (grpc.StatusCode.INTERNAL, EngineFailed, VllmdError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, EngineFailed, DeadlineExceeded),
        (grpc.StatusCode.UNKNOWN, VllmdError, VllmdError),
    ],
)
def test_class_follows_from_the_code(
    code: grpc.StatusCode, by_the_daemon: type[VllmdError], by_grpc: type[VllmdError]
) -> None:
    """A reason that a newer daemon has does not matter; what a proxy says is not taken for an engine's failure."""
    refusal = Refusal("FROM_THE_FUTURE", "no", code)
    error = from_status(code, refusal.status())

    assert type(error) is by_the_daemon
    assert error.reason == "FROM_THE_FUTURE"
    assert type(from_status(code, dataclasses.replace(refusal, domain="proxy.example").status())) is by_grpc


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_is_an_error_of_ours(code: grpc.StatusCode) -> None:
    """Whatever gRPC has."""
    assert isinstance(from_status(code, Refusal("X", "no", code).status()), VllmdError)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (code_pb2.INVALID_ARGUMENT, InvalidRequest),
        (code_pb2.INTERNAL, EngineFailed),
        (code_pb2.UNKNOWN, VllmdError),
        (0, VllmdError),
        (99, VllmdError),
    ],
)
def test_failure_of_one_prompt_goes_by_its_code(code: int, expected: type[VllmdError]) -> None:
    """As that of a call does, also where the reason is one that this client has never heard of."""
    reason = "FROM_THE_FUTURE"
    failure = engine_pb2.Failure(code=code, reason=reason, message="no", metadata={"a": "1"}, log_lines=["x"])
    error = from_failure(failure)

    assert type(error) is expected
    assert (error.reason, error.message, error.metadata, error.log_lines) == (reason, "no", {"a": "1"}, ("x",))


def test_daemon_that_is_too_old_says_so(client: Client) -> None:
    """A call that it has not is no mystery."""
    method: grpc.UnaryUnaryMultiCallable[Message, Message] = client._connection.channel.unary_unary(
        "/vllmd.v1.EngineService/FromTheFuture", lambda _: b""
    )

    with pytest.raises(NotPossible, match="older than this client") as caught:
        client._connection.unary(method, Empty())
    assert caught.value.reason == "DAEMON_OUTDATED"


def test_message_over_the_limit_is_an_invalid_request(client: Client) -> None:
    """Although gRPC calls it exhaustion."""
    with pytest.raises(InvalidRequest, match="over the size limit") as caught:
        list(client.generate("e", "x" * (65 << 20)))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_deadline_that_has_passed(client: Client, timeout: float) -> None:
    """Is told at once, of unary calls and of streams."""
    with pytest.raises(DeadlineExceeded):
        client.status(timeout=timeout)
    with pytest.raises(DeadlineExceeded):
        list(client.generate("e", "x", timeout=timeout))


def test_client_that_is_closed(daemon: FakeDaemon) -> None:
    """Says so, whatever is asked of it."""
    client = Client(daemon.target)
    client.close()

    with pytest.raises(Cancelled, match="CLIENT_CLOSED"):
        client.status()
    with pytest.raises(Cancelled, match="CLIENT_CLOSED"):
        client.generate("e", "x")
    with pytest.raises(Cancelled, match="CLIENT_CLOSED"):
        client.wait_until_ready(5)


class CancelledMeanwhile(grpc.RpcError):
    """A call that this end has cancelled, and whose trailers say that the daemon refused it."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED

    def details(self) -> str:
        return "Channel closed!"

    def trailing_metadata(self) -> tuple[Any, ...]:
        status = Refusal("ENGINE_STOPPED", "it is gone", grpc.StatusCode.UNAVAILABLE).status()
        return (("grpc-status-details-bin", status.SerializeToString()),)


def test_call_that_was_cancelled_as_it_failed() -> None:
    """It ended as it did here, and nothing is amiss that the other end would have it otherwise."""
    assert from_call(CancelledMeanwhile(), "unix:/a.sock").reason == "CLIENT_CLOSED"
