"""The end of one run of an engine, whatever led to it, and whether another one follows: all ways go through here."""

from __future__ import annotations

import logging
import random
import time

from vllmd.engines import diagnosis, reclaim, restarts
from vllmd.engines.diagnosis import Failure
from vllmd.engines.ground import Ground
from vllmd.engines.incarnation import Incarnation
from vllmd.engines.restarts import Restart
from vllmd.engines.view import EngineView
from vllmd.events import Kind
from vllmd.gpu.losses import ADVICE
from vllmd.planner.planning import Plan
from vllmd.worker.causes import named
from vllmd.worker.tree import Tree

_log = logging.getLogger(__name__)


def remains(engine_id: str, run: Incarnation | None, plan: Plan, ground: Ground) -> reclaim.Remains:
    """Say what there may be of an engine; *run* is `None` if its worker could not even be spawned."""
    expected = tuple(ground.ledger.expectation(gpu, without=engine_id) for gpu in plan.gpus)
    if run is not None:
        return run.remains(expected)
    directory = ground.root / engine_id
    tree = Tree(engine_id, None, ground.containment.path(engine_id), directory)
    return reclaim.Remains(tree, directory, expected=expected)


def restart(view: EngineView, failure: Failure, ground: Ground, wanted: str) -> Restart | None:
    """Decide whether an engine that has just failed is started again, and tell; `None` if it is given up.

    Args:
        view: the engine.
        failure: why it failed.
        ground: what it shares with other engines.
        wanted: who has a lease on it, or waits for it; empty if nobody does.
    """
    served = view.ready is not None or bool(view.restarted)
    disturbed = failure.reason == "PROFILING_DISTURBED"
    view.disturbances += disturbed
    decision = restarts.decide(
        ground.restarts,
        view.restarted,
        now=time.time(),
        # Of a first start the client is told, who may know better than to try the same again.
        hopeless=failure.invalid or not served or failure.reason == "GPU_LOST",
        wanted=wanted,
        dice=random.random(),  # noqa: S311 - keeps engines apart, and no secret
        disturbances=view.disturbances if disturbed else 0,
    )
    if served or disturbed:
        message = "It is started again." if isinstance(decision, Restart) else "It is given up."
        ground.events.record(Kind.RESTART, message, reasons=decision.reasons, engine=view.id, model=view.model)
    return decision if isinstance(decision, Restart) else None


def still(view: EngineView, report: reclaim.Report, ground: Ground, wanted: str) -> Restart | None:
    """Look at a restart that was decided on again, once the reclaim is over, and tell if it is called off."""
    why_not = restarts.against(report.verified, view.life.unwanted, wanted)
    if view.restart is not None and why_not:
        ground.events.record(
            Kind.RESTART, "It is not started again after all.", reasons=(why_not,), engine=view.id, model=view.model
        )
    return None if why_not else view.restart


async def end(what: reclaim.Remains, ground: Ground) -> reclaim.Report:
    """Kill what there is of an engine, wait until its memory is back, and tell."""
    engine_id = what.tree.engine_id
    try:
        report = await reclaim.reclaim(what, ground.monitor, ground.rules.reclaim_timeout)
    except Exception as error:  # noqa: BLE001 - whatever it is, the engine must not stay RECLAIMING for ever
        _log.error("engine %s can't be reclaimed", engine_id, exc_info=error)
        report = reclaim.Report(False, f"Not proven to be gone: {named(error)}.")
    ground.ledger.strike(engine_id)
    ground.peaks.end(engine_id)
    gpus = [expected.uuid for expected in what.expected]
    ground.events.record(Kind.RECLAIM, report.summary, engine=engine_id, gpus=gpus, pids=report.pids)
    return report


def gpu_failure(plan: Plan | None, ground: Ground) -> Failure | None:
    """Tell why an engine can't live any more if one of its GPUs is lost."""
    loss = ground.losses.among([gpu.uuid for gpu in plan.gpus]) if plan is not None else None
    return None if loss is None else diagnosis.gpu_lost(str(loss), loss.reason, ADVICE)
