from __future__ import annotations

from tests.engines.conftest import MakeEngine, MakeGround
from tests.fakes.fake_gpus import GIB
from tests.fakes.held_gpus import HeldGpus
from tests.fakes.host import eventually
from tests.fakes.processes import Family
from tests.fakes.supervised import QUICK
from vllmd.engines import loaded
from vllmd.engines.state import State
from vllmd.planner.choice import Choice
from vllmd.planner.planning import Plan
from vllmd.planner.profile import Key
from vllmd.worker.report import EngineInfo, Measured

KEY = Key("f1", "NVIDIA H100", "{}")
INFO = EngineInfo("0.25.1", 4096, 65536, "bfloat16", 1000, Measured(15 * GIB, 2 * GIB, GIB))


async def test_what_a_loaded_engine_holds_is_written_down(
    engine_id: str, make_ground: MakeGround, gpus: HeldGpus
) -> None:
    """By what NVML says of its processes, or by what the GPU has more than before it came."""
    ground = make_ground()
    plan = Plan((), (await ground.monitor.snapshot()).gpus)
    with Family("calm", engine_id) as family, Family("calm") as other:
        gpus.hold("GPU-0", family.child, 3 * GIB)
        gpus.hold("GPU-0", other.child, 7 * GIB)
        await loaded.note(engine_id, "m", frozenset({family.child.pid}), plan, None, ground)
        told = dict(ground.ledger.holding(engine_id))
        gpus.tells_shares = False
        await loaded.note(engine_id, "m", frozenset({family.child.pid}), plan, None, ground)

    assert told == {"GPU-0": 3 * GIB, "GPU-1": 0}
    assert ground.ledger.holding(engine_id) == {"GPU-0": 10 * GIB, "GPU-1": 0}


async def test_what_a_load_took_is_remembered(engine_id: str, make_ground: MakeGround, gpus: HeldGpus) -> None:
    """With the most that its processes were seen to hold on one GPU, and not once more when it is linked up again."""
    ground = make_ground()
    plan = Plan((), (await ground.monitor.snapshot()).gpus, profile_key=KEY)
    with Family("calm", engine_id) as family:
        pids = frozenset({family.child.pid})
        ground.peaks.begin(engine_id, plan.gpus)
        gpus.hold("GPU-0", family.child, 3 * GIB)
        ground.peaks.observe((await ground.monitor.snapshot()).gpus, {engine_id: {"GPU-0": 5 * GIB}})
        await loaded.note(engine_id, "org/model", pids, plan, INFO, ground)
        await loaded.note(engine_id, "org/model", pids, plan, None, ground)
    (record,) = ground.profiles.all()

    assert (record.model, record.load_count, record.key) == ("org/model", 1, KEY)
    assert record.profile.weights_bytes == 15 * GIB
    assert record.profile.peak_bytes == 5 * GIB


async def test_a_load_on_the_cpu_is_not_remembered(engine_id: str, make_ground: MakeGround) -> None:
    """It takes nothing of a GPU."""
    ground = make_ground()
    await loaded.note(engine_id, "m", frozenset(), Plan((), (), profile_key=KEY), INFO, ground)

    assert ground.profiles.all() == []


async def test_a_load_is_remembered_once(make_engine: MakeEngine) -> None:
    """Of an engine that was loaded already, as one that is taken over, it is not once more."""
    engine = make_engine()
    gpus = (await engine.ground.monitor.snapshot()).gpus[:1]
    choices = tuple(Choice(name, value, "client", "") for name, value in (QUICK | {"fake_vram_bytes": 3000}).items())
    engine.supervisor.start(Plan(choices, gpus, profile_key=KEY))
    await engine.reaches(State.READY)
    await eventually(engine.ground.profiles.all)
    engine.supervisor.loaded()
    engine.supervisor.stop("the test is over")
    await engine.ended()
    (record,) = engine.ground.profiles.all()

    assert (record.profile.vllm_version, record.profile.weights_bytes, record.load_count) == ("fake", 1000, 1)
