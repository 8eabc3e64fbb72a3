from __future__ import annotations

import grpc
import pytest

from vllmd.client.errors import DaemonUnreachable, NotFound, Unavailable, VllmdError
from vllmd.client.keeping import Answer, Keeping, Pause, Renew, Watch, keeping
from vllmd.client.values import duration
from vllmd.v1.engine_pb2 import Lease

HELD = Lease(name="leases/1")
FREE = Lease(name="leases/1", ttl=duration(90))
GONE = NotFound(grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND", "")
BROKEN = DaemonUnreachable("unix:/a.sock", "it broke", request_sent=True, was_there=True)
ABSENT = DaemonUnreachable("unix:/a.sock", "nobody there", request_sent=False)
DIED = Unavailable(grpc.StatusCode.UNAVAILABLE, "ENGINE_STOPPED", "")
UPGRADING = Unavailable(grpc.StatusCode.UNAVAILABLE, "UPGRADING", "", retry_after=1.0)


def start(lease: Lease, held: bool, times: list[float] | None = None) -> Keeping:
    """Begin to keep a lease; *times* are what the clock shows whenever it is looked at."""
    shown = iter(times or [])
    return keeping(lease, held, lambda: next(shown, 0.0))


def test_lease_is_renewed_at_a_third_of_its_length() -> None:
    """Over and over, and by the length that it has by then."""
    steps = start(FREE, held=False)

    assert next(steps) == Pause(30)
    assert steps.send(None) == Renew()
    assert steps.send(Lease(name="leases/1", ttl=duration(60))) == Pause(20)


def test_held_lease_is_watched() -> None:
    """It needs no renewal, and its end without an error is a release."""
    steps = start(HELD, held=True)

    assert next(steps) == Watch()
    with pytest.raises(StopIteration):
        steps.send(None)


@pytest.mark.parametrize("failure", [BROKEN, UPGRADING])
def test_held_lease_outlasts_a_restart(failure: VllmdError) -> None:
    """The next daemon has it for a minute, and it is renewed from then on."""
    steps = start(HELD, held=True)
    next(steps)

    assert steps.send(failure) == Renew()
    assert steps.send(Lease(name="leases/1", ttl=duration(60))) == Pause(20)


def test_program_on_its_way_out_is_waited_for() -> None:
    """It still holds the lease, by a stream that is broken already; that must not last."""
    steps = start(HELD, held=True)
    next(steps)

    assert steps.send(UPGRADING) == Renew()
    assert steps.send(HELD) == Pause(0.5)
    assert steps.send(None) == Renew()

    def for_ever() -> None:
        while True:
            steps.send(HELD)

    with pytest.raises(Unavailable, match="UPGRADING"):
        for_ever()


def test_engine_that_dies_ends_it() -> None:
    """Its reason is what the user is told."""
    steps = start(HELD, held=True)
    next(steps)

    with pytest.raises(Unavailable, match="ENGINE_STOPPED"):
        steps.send(DIED)


@pytest.mark.parametrize("answer", [ABSENT, GONE])
def test_daemon_that_does_not_come_back_ends_it(answer: Answer) -> None:
    """The renewal has waited as long as a restart takes."""
    steps = start(HELD, held=True)
    next(steps)
    steps.send(BROKEN)

    with pytest.raises(VllmdError):
        steps.send(answer)


def test_renewal_that_fails_for_the_moment_is_tried_sooner() -> None:
    """There is time for some tries until the lease ends."""
    steps = start(FREE, held=False, times=[0, 30, 40, 49])
    next(steps)
    steps.send(None)

    assert steps.send(ABSENT) == Pause(9)
    assert steps.send(None) == Renew()
    assert steps.send(FREE) == Pause(30)


def test_renewal_that_fails_for_longer_than_the_lease_lasts_ends_it() -> None:
    """The lease is gone by then."""
    steps = start(FREE, held=False, times=[0, 30, 91])
    next(steps)
    steps.send(None)

    with pytest.raises(DaemonUnreachable):
        steps.send(ABSENT)


def test_lease_that_is_gone_ends_it() -> None:
    """There is nothing to renew."""
    steps = start(FREE, held=False)
    next(steps)
    steps.send(None)

    with pytest.raises(NotFound):
        steps.send(GONE)


def test_lease_that_somebody_else_holds_is_left_alone() -> None:
    """It has no length to renew it by."""
    with pytest.raises(StopIteration):
        next(start(HELD, held=False))
