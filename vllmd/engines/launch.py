"""Turns a plan into processes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vllmd.engines.directory import Owned, create
from vllmd.engines.environment import engine_environment
from vllmd.engines.ground import Ground
from vllmd.engines.process import EngineProcess, spawn
from vllmd.gpu.ledger import Expectation
from vllmd.planner.planning import Plan
from vllmd.worker.processes import boot_id
from vllmd.worker.spec import SIMULATION_VARIABLE, Held, Spec


def launch(
    engine_id: str, model: str, plan: Plan, expected: Sequence[Expectation], ground: Ground
) -> tuple[Owned, EngineProcess]:
    """Make an engine's cgroup and directory, and spawn its worker.

    Args:
        engine_id: its name.
        model: what to load.
        plan: how.
        expected: what its GPUs hold without it; written down for a daemon that has to reclaim it one day.
        ground: what it shares with other engines.

    Raises:
        OSError: something can't be made or run; what was made stays for the reclaim.
    """
    cgroup = ground.containment.make(engine_id)
    spec = Spec(
        engine_id=engine_id,
        backend=ground.backend,
        model=model,
        engine_args=plan.engine_args,
        cgroup=str(cgroup) if cgroup else None,
        adoption_timeout=ground.rules.adoption_timeout,
        vllmd_version=ground.version,
        boot_id=boot_id(),
        gpus=tuple(Held(one.uuid, one.floor_bytes) for one in expected),
        lora=dict(plan.lora),
    )
    owned = create(ground.root, spec)
    environment = engine_environment(
        engine_id,
        owned.path,
        ground.cache,
        tuple(gpu.uuid for gpu in plan.gpus),
        ground.rules.load_timeout,
        os.environ,
        ground.rules.pass_environment,
    )
    if ground.simulation is not None:
        environment[SIMULATION_VARIABLE] = str(ground.simulation)
    try:
        return owned, spawn(engine_id, owned, ground.python, cgroup, environment)
    except OSError:
        owned.disown()
        raise
