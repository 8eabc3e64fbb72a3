from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import grpc
import pytest

from vllmd.client.errors import Cancelled, DaemonUnreachable, DeadlineExceeded, VllmdError
from vllmd.client.retries import RESTART_SECONDS, Check, Patience, Sleep, Steps, Try, check_time, pause
from vllmd.client.translation import closed

ABSENT = DaemonUnreachable("unix:/a.sock", "no daemon answers", request_sent=False)
BROKEN = DaemonUnreachable("unix:/a.sock", "the connection broke", request_sent=True, was_there=True)
UPGRADING = VllmdError(grpc.StatusCode.UNAVAILABLE, "UPGRADING", "", retry_after=1.0)
UNAVAILABLE = VllmdError(grpc.StatusCode.UNAVAILABLE, "ENGINE_DIED", "")
EXHAUSTED = VllmdError(grpc.StatusCode.RESOURCE_EXHAUSTED, "GPU_MEMORY_EXHAUSTED", "", retry_after=5.0)
NOT_FOUND = VllmdError(grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND", "")


@pytest.mark.parametrize(
    ("failure", "again", "once"),
    [
        (ABSENT, 0.0, 0.0),
        (BROKEN, 0.0, None),
        (UPGRADING, 1.0, None),
        (UNAVAILABLE, None, None),
        (EXHAUSTED, None, None),
        (NOT_FOUND, None, None),
    ],
)
def test_what_is_made_again_and_when(failure: VllmdError, again: float | None, once: float | None) -> None:
    """When the daemon says when, or is not there; what must not be done twice, only if it can't have been heard."""
    assert (pause(failure, False), pause(failure, True)) == (again, once)


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def play(steps: Steps[Any], *answers: Any) -> list[Any]:
    """Answer steps one after the other; returns them, with the result at the end if there is one."""
    taken: list[Any] = []
    for answer in (None, *answers):
        try:
            taken.append(steps.send(answer))
        except StopIteration as end:
            taken.append(end.value)
    return taken


def test_answer_is_the_end() -> None:
    """Of a call that succeeds at once."""
    assert play(Patience("t", 0).unary(None, False), "answer") == [Try(None), "answer"]


def test_daemon_that_is_not_there_is_not_waited_for() -> None:
    """Unless the client was told to."""
    with pytest.raises(DaemonUnreachable):
        play(Patience("t", 0).unary(None, False), ABSENT)

    assert play(Patience("t", 5, Clock()).unary(None, False), ABSENT, None, None, "answer") == [
        Try(None),
        Sleep(0.0),
        Check(5.0),
        Try(None),
        "answer",
    ]


def test_daemon_that_was_there_gets_time_to_come_back() -> None:
    """It is being restarted, also if this call is the one that it broke."""
    patience = Patience("t", 0, Clock())

    assert play(patience.unary(None, False), BROKEN, None, None, "answer")[1:3] == [Sleep(0.0), Check(RESTART_SECONDS)]
    assert play(patience.unary(None, False), ABSENT)[1] == Sleep(0.0)


def test_deadline_is_for_all_tries_together() -> None:
    """What waiting took is gone from the next try."""
    clock = Clock()
    steps = Patience("t", 60, clock).unary(5, False)
    assert next(steps) == Try(5)
    clock.now = 2
    assert steps.send(UPGRADING) == Sleep(1.0)
    assert steps.send(None) == Check(2.0)
    clock.now = 4

    assert steps.send(None) == Try(1.0)


def test_wait_for_a_daemon_ends_with_any_answer() -> None:
    """A refusal is one; that there is no daemon is none, until the time has passed."""
    late = VllmdError(grpc.StatusCode.DEADLINE_EXCEEDED, "", "")

    assert play(Patience("t", 0, Clock()).until_ready(3), ABSENT, NOT_FOUND) == [Check(3), Check(3), None]
    with pytest.raises(DaemonUnreachable, match=r"no daemon answers at t: waited 3 s"):
        play(Patience("t", 0, Clock()).until_ready(3), late)


def test_what_may_have_been_heard_is_the_greater_news() -> None:
    """If no daemon comes back, the call's own failure is what is raised."""
    late = VllmdError(grpc.StatusCode.DEADLINE_EXCEEDED, "", "")

    with pytest.raises(DaemonUnreachable, match="the connection broke"):
        play(Patience("t", 0).unary(None, False), BROKEN, None, late)


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_deadline_that_has_passed_is_not_tried(timeout: float) -> None:
    """What comes of it would be chance."""
    with pytest.raises(DeadlineExceeded):
        next(Patience("t", 60).unary(timeout, False))


@pytest.mark.parametrize("endless", [math.inf, math.nan])
def test_a_timeout_has_an_end(endless: float) -> None:
    """None at all is another thing to say, and gRPC would take it for one that has passed."""
    with pytest.raises(ValueError, match="leave it out for no limit"):
        check_time(endless)


@pytest.mark.parametrize("wrong", ["3", timedelta(seconds=3)])
def test_time_of_another_type_is_named(wrong: Any) -> None:
    """Before anything is tried."""
    with pytest.raises(TypeError, match="connect_timeout is a number of seconds, not"):
        Patience("unix:/a.sock", wrong)
    patience = Patience("unix:/a.sock", 0.0)
    for steps in (patience.unary(wrong, False), patience.until_ready(wrong)):
        with pytest.raises(TypeError, match="timeout is a number of seconds, not"):
            next(steps)


def test_client_that_is_closed_waits_for_nothing() -> None:
    """Its own word is no answer of a daemon."""
    steps = Patience("unix:/a.sock", 0.0).until_ready(5.0)
    next(steps)

    with pytest.raises(Cancelled, match="CLIENT_CLOSED"):
        steps.send(closed())
