from __future__ import annotations

import grpc
import pytest

from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal, not_found
from tests.fakes.samples import loaded, stopped, tokens
from vllmd.client import Client, Generation, VllmdError
from vllmd.v1 import engine_service_pb2 as pb

LEASE = "leases/5d41402abc4b2a76b9719d911017c592"


def test_block_releases_at_its_end(daemon: FakeDaemon, client: Client) -> None:
    """A `with` block generates by the lease and ends it."""
    daemon.load = [loaded()]
    daemon.generate = list(tokens())

    with client.load("m") as model:
        text = Generation.collect(model.generate("x", max_tokens=4)).text

    assert text == "Once upon a time"
    assert [type(request) for request in daemon.requests] == [
        pb.LoadModelRequest,
        pb.GenerateRequest,
        pb.ReleaseRequest,
    ]
    assert daemon.requests[1].lease == daemon.requests[2].lease == LEASE


def test_release_tells_what_became_of_the_engine(daemon: FakeDaemon, client: Client) -> None:
    """The engine comes back with its proof, and the block does not release again."""
    daemon.load = [loaded()]
    daemon.release = pb.ReleaseResponse(engine=stopped())

    with client.load("m") as model:
        engine = model.release()

    assert engine.reclaim.verified
    assert sum(isinstance(request, pb.ReleaseRequest) for request in daemon.requests) == 1


def test_held_lease_ends_with_its_stream(daemon: FakeDaemon, client: Client) -> None:
    """A held load keeps its stream until the release."""
    daemon.load = [loaded(), Hang()]

    with client.load("m", hold=True):
        assert daemon.arrived.acquire(timeout=5)
        assert not daemon.cancelled.is_set()

    assert daemon.cancelled.wait(5)


def test_waiting_on_a_held_lease_sees_its_engine_die(daemon: FakeDaemon, client: Client) -> None:
    """An engine that dies ends the held stream with the reason."""
    daemon.load = [loaded(), Refusal("ENGINE_DIED", "it died", grpc.StatusCode.UNAVAILABLE)]
    model = client.load("m", hold=True)

    with pytest.raises(VllmdError, match="ENGINE_DIED"):
        model.wait()


def test_lease_that_is_gone_already_is_released(daemon: FakeDaemon, client: Client) -> None:
    """A lease that ran out by itself is no error at the end of a block."""
    daemon.load = [loaded()]
    daemon.release = not_found("lease", LEASE)

    with client.load("m"):
        pass


def test_error_of_the_block_comes_first(daemon: FakeDaemon, client: Client) -> None:
    """A failing release does not hide why the block failed."""
    daemon.load = [loaded()]
    daemon.release = Refusal("INTERNAL", "no")

    with pytest.raises(ZeroDivisionError), client.load("m"):
        raise ZeroDivisionError


def test_failing_release_is_raised(daemon: FakeDaemon, client: Client) -> None:
    """A block that was fine reports that its release was not."""
    daemon.load = [loaded()]
    daemon.release = Refusal("INTERNAL", "no")

    with pytest.raises(VllmdError, match="INTERNAL"), client.load("m"):
        pass


def test_renewed_lease_is_kept(daemon: FakeDaemon, client: Client) -> None:
    """Renewing returns and remembers the lease's new length."""
    daemon.load = [loaded()]

    with client.load("m") as model:
        assert model.renew(30).ttl.seconds == 30
        assert model.lease.ttl.seconds == 30
