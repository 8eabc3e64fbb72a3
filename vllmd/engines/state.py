"""The life of an engine: which event leads from which state to which, and what is to be done then.

    PENDING → STARTING → READY → STOPPING → RECLAIMING → STOPPED
       ↓          ↑└───────┴──────────┴──────────↑ │└──→ FAILED
       ↓          └───────────── BACKOFF ←─────────┘
       └─→ STOPPED, FAILED; RECLAIMING, if an earlier daemon had started it and it does not run any more

Only death frees GPU memory, so every way out of a started engine leads through RECLAIMING, where its
processes are killed and its memory is awaited; only then may it be started again. The table is total: each pair of
state and event is either a row of it or ignored on purpose, and a test walks them all.
"""

from __future__ import annotations

import dataclasses
import enum

STORY_LENGTH = 50
"""How many of its last transitions an engine remembers."""


class State(enum.StrEnum):
    """Where an engine is in its life; `proto/vllmd/v1/engine.proto` says what each means."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    READY = "READY"
    STOPPING = "STOPPING"
    RECLAIMING = "RECLAIMING"
    BACKOFF = "BACKOFF"
    STOPPED = "STOPPED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """True if nothing will happen to the engine any more."""
        return self in (State.STOPPED, State.FAILED)

    @property
    def ending(self) -> bool:
        """True while it is ended; it may be started again after that, if it failed."""
        return self in (State.STOPPING, State.RECLAIMING)


class Event(enum.StrEnum):
    """What can happen to an engine."""

    START = "START"
    """It has got its GPUs and a plan."""
    ADOPT = "ADOPT"
    """Its processes are there already: an earlier daemon started them."""
    RECOVER = "RECOVER"
    """An earlier daemon had started it, and it runs no more; what may be left of it has to go first."""
    LOADED = "LOADED"
    """The worker says that the model is loaded."""
    FAIL = "FAIL"
    """Something of it broke: it can't be started, a process died, the engine said that it is dead."""
    STOP = "STOP"
    """It is to end, with the grace period."""
    KILL = "KILL"
    """It is to end at once."""
    GRACE_EXPIRED = "GRACE_EXPIRED"
    """It was asked to end and has not."""
    EXITED = "EXITED"
    """Its worker ended after it was asked to."""
    RECLAIMED = "RECLAIMED"
    """It is proven to be gone."""
    RETRY = "RETRY"
    """It is proven to be gone, and is to be started again."""
    UNRECLAIMED = "UNRECLAIMED"
    """It can't be proven to be gone."""


class Action(enum.StrEnum):
    """What is to be done on a transition."""

    SPAWN = "SPAWN"
    TAKE_OVER = "TAKE_OVER"
    """Watch the processes that are there, and go on with their start or their service."""
    TERMINATE = "TERMINATE"
    """Ask the worker to end, and set a timer."""
    RECLAIM = "RECLAIM"
    """Kill the tree, wait for its memory, remove what it leaves; answers RECLAIMED, RETRY or UNRECLAIMED."""
    WAIT = "WAIT"
    """Wait for the time of the next start."""
    RECORD_FAILURE = "RECORD_FAILURE"
    """Keep the cause that came with the event: unless it is started again, the engine will end as FAILED."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    state: State
    actions: tuple[Action, ...] = ()


_BROKEN = Row(State.RECLAIMING, (Action.RECORD_FAILURE, Action.RECLAIM))
_ENDING = Row(State.RECLAIMING, (Action.RECLAIM,))

TABLE: dict[tuple[State, Event], Row] = {
    (State.PENDING, Event.START): Row(State.STARTING, (Action.SPAWN,)),
    (State.PENDING, Event.ADOPT): Row(State.STARTING, (Action.TAKE_OVER,)),
    (State.PENDING, Event.RECOVER): _BROKEN,
    (State.PENDING, Event.FAIL): Row(State.FAILED, (Action.RECORD_FAILURE,)),
    (State.PENDING, Event.STOP): Row(State.STOPPED),
    (State.PENDING, Event.KILL): Row(State.STOPPED),
    (State.STARTING, Event.LOADED): Row(State.READY),
    (State.STARTING, Event.FAIL): _BROKEN,
    # vLLM ignores SIGTERM while it loads, or is orphaned by it, so a start that is not wanted is killed.
    (State.STARTING, Event.STOP): _ENDING,
    (State.STARTING, Event.KILL): _ENDING,
    (State.READY, Event.FAIL): _BROKEN,
    (State.READY, Event.STOP): Row(State.STOPPING, (Action.TERMINATE,)),
    (State.READY, Event.KILL): _ENDING,
    (State.STOPPING, Event.KILL): _ENDING,
    (State.STOPPING, Event.GRACE_EXPIRED): _ENDING,
    (State.STOPPING, Event.EXITED): _ENDING,
    (State.RECLAIMING, Event.RECLAIMED): Row(State.STOPPED),
    (State.RECLAIMING, Event.RETRY): Row(State.BACKOFF, (Action.WAIT,)),
    (State.RECLAIMING, Event.UNRECLAIMED): Row(State.FAILED, (Action.RECORD_FAILURE,)),
    (State.BACKOFF, Event.START): Row(State.STARTING, (Action.SPAWN,)),
    (State.BACKOFF, Event.FAIL): Row(State.FAILED, (Action.RECORD_FAILURE,)),
    (State.BACKOFF, Event.STOP): Row(State.STOPPED),
    (State.BACKOFF, Event.KILL): Row(State.STOPPED),
}

_BEGINS = frozenset({Event.START, Event.ADOPT, Event.RECOVER})
_ENDS = frozenset({Event.GRACE_EXPIRED, Event.EXITED})
_RECLAIM_ANSWERS = frozenset({Event.RECLAIMED, Event.RETRY, Event.UNRECLAIMED})
_LATE = _BEGINS | _ENDS | {Event.LOADED, Event.FAIL, Event.STOP, Event.KILL}

IGNORED: dict[State, frozenset[Event]] = {
    State.PENDING: _ENDS | _RECLAIM_ANSWERS | {Event.LOADED},
    State.STARTING: _BEGINS | _ENDS | _RECLAIM_ANSWERS,
    State.READY: _BEGINS | _ENDS | _RECLAIM_ANSWERS | {Event.LOADED},
    # The tree falls apart in its own order while it ends; what counts is the worker's exit.
    State.STOPPING: _BEGINS | _RECLAIM_ANSWERS | {Event.LOADED, Event.STOP, Event.FAIL},
    # Whatever still arrives from a tree that is being killed changes nothing any more; a stop is remembered (`step`).
    State.RECLAIMING: _LATE,
    State.BACKOFF: _ENDS | _RECLAIM_ANSWERS | {Event.ADOPT, Event.RECOVER, Event.LOADED},
    State.STOPPED: _LATE | _RECLAIM_ANSWERS,
    State.FAILED: _LATE | _RECLAIM_ANSWERS,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Transition:
    """One change of state."""

    time: float
    """Seconds since the epoch."""
    old: State
    new: State
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """An engine's state and how it got there."""

    state: State = State.PENDING
    broken: bool = False
    """True once something failed: it will end as FAILED even if it is reclaimed in full, unless it starts again."""
    unwanted: bool = False
    """True once it was asked to end: it is not started again."""
    story: tuple[Transition, ...] = ()


def step(life: Life, event: Event, reason: str, now: float) -> tuple[Life, tuple[Action, ...]]:
    """Let *event* happen; returns the life after it and what is to be done.

    Raises:
        AssertionError: the pair is neither in the table nor ignored: a bug.
    """
    unwanted = life.unwanted or (event in (Event.STOP, Event.KILL) and not life.state.ended)
    row = TABLE.get((life.state, event))
    if row is None:
        assert event in IGNORED[life.state], f"{event} in {life.state}: {life.story}"
        return life if unwanted == life.unwanted else dataclasses.replace(life, unwanted=unwanted), ()
    ends_broken = row.state is State.STOPPED and life.broken and life.state is not State.BACKOFF
    new = State.FAILED if ends_broken else row.state
    # A new start is a new life, apart from its story.
    broken = row.state is not State.STARTING and (life.broken or Action.RECORD_FAILURE in row.actions)
    story = (*life.story, Transition(now, life.state, new, reason))[-STORY_LENGTH:]
    return Life(new, broken, unwanted, story), row.actions
