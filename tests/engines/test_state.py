from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.engines.state import IGNORED, STORY_LENGTH, TABLE, Action, Event, Life, State, step

EVENTS = st.lists(st.sampled_from(Event), max_size=80)
RECOVERY = (State.PENDING, State.RECLAIMING)
"""What an earlier daemon had started is reclaimed as well."""
STARTED = (State.STARTING, State.READY, State.STOPPING)


def live(events: list[Event]) -> list[tuple[Life, Event, Life, tuple[Action, ...]]]:
    """Let events happen one after the other; returns each with the life before and after it."""
    life, steps = Life(), []
    for now, event in enumerate(events):
        before = life
        life, actions = step(before, event, f"reason {now}", float(now))
        steps.append((before, event, life, actions))
    return steps


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_of_state_and_event_has_been_thought_of(state: State, event: Event) -> None:
    """Each is either a row or ignored on purpose, never both and never neither."""
    ignored = event in IGNORED[state]
    after, actions = step(Life(state), event, "", 0.0)

    assert ((state, event) in TABLE) is not ignored
    assert after.state in State
    if ignored:
        assert (after.state, after.story, actions) == (state, (), ())


@given(EVENTS)
def test_any_order_of_events_leads_through_a_valid_life(events: list[Event]) -> None:
    """Nothing that the world can do to an engine raises, and an engine that has ended stays so."""
    for before, _, after, actions in live(events):
        assert before.state is not after.state or after.story == before.story
        if before.state.ended:
            assert after is before
            assert actions == ()
        assert after.unwanted or not before.unwanted


@given(EVENTS)
def test_memory_is_awaited_on_every_way_out_of_a_started_engine(events: list[Event]) -> None:
    """Whoever has had processes ends, or is started again, only by way of RECLAIMING, which reclaims each time."""
    steps = live(events)
    changes = [(before.state, after.state) for before, _, after, _ in steps if before.state is not after.state]
    reclaims = [actions for *_, actions in steps if Action.RECLAIM in actions]
    begins = [new for old, new in changes if new is State.STARTING or (old, new) == RECOVERY]

    assert not [old for old, new in changes if old in STARTED and (new.ended or new is State.BACKOFF)]
    assert len(reclaims) == sum(new is State.RECLAIMING for _, new in changes)
    assert len(begins) - 1 <= len(reclaims) <= len(begins)


@given(EVENTS)
def test_engine_of_which_something_broke_ends_as_failed(events: list[Event]) -> None:
    """Its memory may be back in full: what failed since its last start is still the story, and a stop alone is none."""
    broke = False
    for before, _, after, actions in live(events):
        if after.state is State.STARTING:
            broke = False
        broke = broke or Action.RECORD_FAILURE in actions

        if after.state.ended and not before.state.ended and before.state is not State.BACKOFF:
            assert after.state is (State.FAILED if broke else State.STOPPED)


@given(EVENTS)
def test_story_tells_the_last_transitions(events: list[Event]) -> None:
    """Each begins where the one before ended, with when and why."""
    steps = live(events)
    story = steps[-1][2].story if steps else ()
    changes = [
        (after.state, float(now)) for now, (before, _, after, _) in enumerate(steps) if before.state is not after.state
    ]

    assert [(one.new, one.time) for one in story] == changes[-STORY_LENGTH:]
    assert all(one.new is two.old for one, two in pairwise(story))
    assert all(one.reason == f"reason {one.time:.0f}" for one in story)


@pytest.mark.parametrize(
    ("events", "states", "end"),
    [
        ("START LOADED STOP EXITED RECLAIMED", "STARTING READY STOPPING RECLAIMING", State.STOPPED),
        ("START LOADED STOP GRACE_EXPIRED RECLAIMED", "STARTING READY STOPPING RECLAIMING", State.STOPPED),
        ("START LOADED FAIL STOP RECLAIMED", "STARTING READY RECLAIMING RECLAIMING", State.FAILED),
        ("START STOP LOADED RECLAIMED", "STARTING RECLAIMING RECLAIMING", State.STOPPED),
        ("START LOADED STOP FAIL KILL RECLAIMED", "STARTING READY STOPPING STOPPING RECLAIMING", State.STOPPED),
        ("START LOADED KILL UNRECLAIMED", "STARTING READY RECLAIMING", State.FAILED),
        ("START LOADED FAIL RETRY START LOADED", "STARTING READY RECLAIMING BACKOFF STARTING", State.READY),
        ("START LOADED FAIL RETRY FAIL", "STARTING READY RECLAIMING BACKOFF", State.FAILED),
        ("START LOADED FAIL RETRY STOP", "STARTING READY RECLAIMING BACKOFF", State.STOPPED),
        (
            "START LOADED FAIL RETRY START LOADED KILL RECLAIMED",
            "STARTING READY RECLAIMING BACKOFF STARTING READY RECLAIMING",
            State.STOPPED,
        ),
        ("ADOPT LOADED KILL RECLAIMED", "STARTING READY RECLAIMING", State.STOPPED),
        ("RECOVER RETRY START LOADED", "RECLAIMING BACKOFF STARTING", State.READY),
        ("RECOVER RECLAIMED", "RECLAIMING", State.FAILED),
        ("FAIL START", "FAILED", State.FAILED),
        ("STOP START", "STOPPED", State.STOPPED),
    ],
)
def test_lives(events: str, states: str, end: State) -> None:
    """The lives that engines mostly have."""
    steps = live([Event(event) for event in events.split()])
    seen = [after.state for *_, after, _ in steps]

    assert seen == [*(State(state) for state in states.split()), end]


def test_a_stop_that_comes_during_a_reclaim_is_remembered() -> None:
    """What was asked to end is not started again, whatever it is busy with when it is asked."""
    steps = live([Event.START, Event.LOADED, Event.FAIL, Event.STOP, Event.RECLAIMED])

    assert [after.unwanted for *_, after, _ in steps] == [False, False, False, True, True]


def test_start_that_is_not_wanted_is_killed_and_a_ready_engine_is_asked() -> None:
    """vLLM does not heed SIGTERM while it loads."""
    loading, _ = step(Life(), Event.START, "", 0.0)
    ready, _ = step(loading, Event.LOADED, "", 0.0)

    assert step(loading, Event.STOP, "", 0.0)[1] == (Action.RECLAIM,)
    assert step(ready, Event.STOP, "", 0.0)[1] == (Action.TERMINATE,)
    assert step(ready, Event.KILL, "", 0.0)[1] == (Action.RECLAIM,)


def test_failure_is_recorded_before_anything_is_done_about_it() -> None:
    """Whoever is told of the reclaim can be told why."""
    for row in TABLE.values():
        if Action.RECORD_FAILURE in row.actions:
            assert row.actions[0] is Action.RECORD_FAILURE
