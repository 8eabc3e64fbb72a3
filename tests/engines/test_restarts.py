from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.engines.restarts import (
    JITTER,
    LONGEST_DELAY_SECONDS,
    GiveUp,
    Policy,
    Restart,
    against,
    decide,
    resume,
)

POLICY = Policy(limit=3, window_seconds=600.0, first_delay_seconds=1.0)


def after(*earlier: float, now: float = 1000.0, **facts: Any) -> Restart | GiveUp:
    """Decide, with dice that fall on the middle."""
    usual: dict[str, Any] = {"hopeless": False, "wanted": "a lease"}
    return decide(POLICY, earlier, now=now, dice=0.5, **(usual | facts))


@pytest.mark.parametrize(
    ("earlier", "delay"), [((), 1.0), ((999.0,), 2.0), ((990.0, 999.0), 4.0), ((399.0, 400.0), 1.0)]
)
def test_each_failure_within_the_window_doubles_the_delay(earlier: tuple[float, ...], delay: float) -> None:
    """What was long ago counts no more."""
    decision = after(*earlier)

    assert isinstance(decision, Restart)
    assert decision.delay_seconds == delay


def test_an_engine_that_fails_too_often_is_given_up() -> None:
    """The budget is told; once the window has passed there is a new one."""
    given_up = after(980.0, 990.0, 999.0)

    assert given_up == GiveUp(("it was started again 3 times within 600 s",))
    assert isinstance(after(980.0, 990.0, 999.0, now=1590.0), Restart)


def test_a_cause_that_can_not_change_is_not_tried_again() -> None:
    """A wrong argument stays wrong."""
    assert after(hopeless=True) == GiveUp(("another try can't change the cause",))


def test_what_nobody_wants_is_not_started_again() -> None:
    """Its memory is better used by somebody else."""
    assert after(wanted="") == GiveUp(("nobody has a lease on it",))


def test_a_restart_says_who_wanted_it() -> None:
    """And what it costs."""
    decision = after(wanted="there are 2 leases on it")

    assert decision.reasons == ("there are 2 leases on it", "restart 1 of at most 3 within 600 s")


@pytest.mark.parametrize(
    ("verified", "unwanted", "wanted", "why"),
    [
        (True, False, "a lease", ""),
        (True, False, "", "nobody has a lease on it any more"),
        (True, True, "", "nobody has a lease on it any more"),
        (True, True, "a lease", "it was asked to end meanwhile"),
        (False, True, "", "it is not proven to be gone"),
    ],
)
def test_a_restart_may_be_called_off_while_the_engine_is_reclaimed(
    verified: bool, unwanted: bool, wanted: str, why: str
) -> None:
    """That takes its time, in which whoever needed it may go."""
    assert against(verified, unwanted, wanted) == why


@pytest.mark.parametrize(("disturbances", "counts"), [(1, False), (3, False)])
def test_a_start_that_a_neighbour_disturbed_is_made_again_for_nothing(disturbances: int, counts: bool) -> None:
    """vLLM measures what changes on the whole GPU: nobody is to blame, though a first start is not repeated else."""
    decision = decide(POLICY, [], now=0.0, hopeless=True, wanted="a lease", dice=0.5, disturbances=disturbances)

    assert decision == Restart(1.0, ("a neighbour on its GPU disturbed its start", "a lease"), counts)


def test_a_start_that_is_disturbed_again_and_again_is_given_up() -> None:
    """Something else is wrong then."""
    assert isinstance(decide(POLICY, [], now=0.0, hopeless=True, wanted="a lease", dice=0.5, disturbances=4), GiveUp)


@given(st.floats(0, 1), st.integers(0, 40))
def test_delays_are_bounded(dice: float, failures: int) -> None:
    """However often it failed, and however the dice fall."""
    decision = decide(Policy(limit=100), [999.0] * failures, now=1000.0, hopeless=False, wanted="a lease", dice=dice)

    assert isinstance(decision, Restart)
    assert 1 - JITTER <= decision.delay_seconds <= LONGEST_DELAY_SECONDS * (1 + JITTER)


@pytest.mark.parametrize(
    ("due", "delay"), [(1008.0, 8.0), (900.0, 0.0), (9000.0, LONGEST_DELAY_SECONDS * (1 + JITTER))]
)
def test_a_later_daemon_keeps_to_the_time_of_a_restart(due: float, delay: float) -> None:
    """One that is overdue comes at once, and a clock that was turned back holds none up."""
    assert resume(Restart(2.0, ("why",)), due, 1000.0) == Restart(delay, ("why",))
