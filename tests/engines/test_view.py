from __future__ import annotations

import time

from vllmd.engines.diagnosis import Failure
from vllmd.engines.restarts import Restart
from vllmd.engines.state import Life, State
from vllmd.engines.view import EngineView
from vllmd.errors import EngineFailed, Unavailable


def test_an_engine_that_has_not_begun_has_nothing() -> None:
    """Neither processes nor a log; it only waits for GPUs."""
    view = EngineView("e-1", "org/model")

    assert (view.pid, view.log, view.tree, view.link, view.known_pids) == (None, None, None, None, frozenset())
    assert view.due
    assert view.generated_tokens == 0
    assert repr(view) == "<Engine e-1 PENDING gpus=->"


def test_an_engine_that_failed_says_why_unless_it_is_on_its_way_back() -> None:
    """Who asks for it meanwhile is told when to try again."""
    view = EngineView("e-1", "org/model")
    view.life = Life(State.BACKOFF)
    view.failure = Failure("ENGINE_START_FAILED", "It broke.")
    view.restart = Restart(8.0, ("restart 1 of at most 3",))
    view.next_start = time.time() + 8.0
    error = view.error()
    view.life = Life(State.FAILED)

    assert isinstance(error, Unavailable)
    assert error.reason == "ENGINE_RESTARTING"
    assert error.retry_seconds is not None
    assert 7.0 < error.retry_seconds <= 8.0
    assert isinstance(view.error(), EngineFailed)


def test_an_engine_that_failed_for_good_says_nothing_of_another_try() -> None:
    """But to who would load its model again, by another engine."""
    view = EngineView("e-1", "org/model")
    view.life = Life(State.FAILED)
    view.failure = Failure("GPU_MEMORY_EXHAUSTED", "It does not fit now.")

    assert view.error().retry_seconds is None
    assert view.error(to_load=True).retry_seconds == 5.0
    view.failure = None
    assert (view.error().reason, view.error().retry_seconds) == ("ENGINE_STOPPED", None)


def test_what_was_asked_to_end_is_not_on_its_way_back() -> None:
    """Whatever was decided before."""
    view = EngineView("e-1", "org/model")
    view.restart = Restart(8.0, ("restart 1 of at most 3",))
    view.life = Life(State.RECLAIMING)
    before = view.restarting
    view.life = Life(State.RECLAIMING, unwanted=True)

    assert before
    assert not view.restarting
