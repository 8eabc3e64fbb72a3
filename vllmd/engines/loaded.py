"""What is noted of an engine that has just been loaded: what it holds, and what its load took."""

from __future__ import annotations

import logging

from vllmd.engines.ground import Ground
from vllmd.planner.planning import Plan
from vllmd.worker.report import EngineInfo

_log = logging.getLogger(__name__)


async def note(
    engine_id: str, model: str, pids: frozenset[int], plan: Plan, told: EngineInfo | None, ground: Ground
) -> None:
    """Write down in the ledger what an engine holds on its GPUs, and remember for later plans what its load took.

    Args:
        engine_id: its name.
        model: what it loaded, as its client named it.
        pids: its processes.
        plan: what it was loaded by.
        told: what it reports of its load; `None` if that is remembered already.
        ground: what it shares with other engines.
    """
    if not plan.gpus:
        return
    before = {gpu.uuid: gpu.used_bytes for gpu in plan.gpus}
    now = (await ground.monitor.snapshot()).named(frozenset(before))
    holdings = {gpu.uuid: gpu.held_by(pids, otherwise=gpu.used_bytes - before[gpu.uuid]) for gpu in now}
    ground.ledger.enter(engine_id, holdings)
    ground.peaks.observe(now, {engine_id: holdings})
    peak = ground.peaks.end(engine_id)
    if told is not None and ground.profiles.learn(model, plan.profile_key, told, peak):
        _log.info("it is remembered what the load of engine %s took", engine_id)
