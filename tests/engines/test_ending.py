from __future__ import annotations

from collections.abc import Callable

from tests.engines.conftest import MakeGround
from tests.fakes.fake_gpus import GIB
from vllmd.engines import ending
from vllmd.engines.diagnosis import Failure
from vllmd.engines.reclaim import Remains
from vllmd.engines.restarts import Policy
from vllmd.engines.view import EngineView
from vllmd.events import Kind
from vllmd.gpu.ledger import Expectation
from vllmd.planner.planning import Plan
from vllmd.worker.tree import Tree


async def test_an_end_is_an_event_and_leaves_the_ledger(engine_id: str, make_ground: MakeGround) -> None:
    """With its figures, and with nothing held by who is gone."""
    ground = make_ground()
    ground.ledger.enter(engine_id, {"GPU-0": GIB})
    plan = Plan((), (await ground.monitor.snapshot()).gpus[:1])
    remains = ending.remains(engine_id, None, plan, ground)
    report = await ending.end(remains, ground)
    (event,) = ground.events.after(0)[0]

    assert remains.expected == (Expectation("GPU-0", GIB),)
    assert report.verified
    assert ground.ledger.holding(engine_id) == {}
    assert (event.kind, event.engine, event.gpus, event.message) == (
        Kind.RECLAIM,
        engine_id,
        ("GPU-0",),
        report.summary,
    )


async def test_an_end_that_goes_wrong_is_told_as_well(engine_id: str, make_ground: MakeGround) -> None:
    """An engine must not stay half-way, whatever happens."""
    ground = make_ground()

    class Broken(Tree):
        def kill(self, timeout: float, known: object = ()) -> Callable[[], None]:  # type: ignore[override]
            raise RuntimeError("nobody thought of this")

    report = await ending.end(Remains(Broken(engine_id, None, None), ground.root / engine_id), ground)

    assert not report.verified
    assert "RuntimeError: nobody thought of this" in report.summary


def test_whether_another_run_follows_is_told(make_ground: MakeGround) -> None:
    """Of an engine that has served; of a first start its client is told, who decides."""
    ground = make_ground(restarts=Policy(limit=1))
    died, disturbed = Failure("ENGINE_DIED", "It died."), Failure("PROFILING_DISTURBED", "It was disturbed.")
    new, served = EngineView("e-1", "m"), EngineView("e-2", "m")
    served.ready = 1.0
    first = ending.restart(new, died, ground, wanted="there is a lease on it")
    again = ending.restart(served, died, ground, wanted="there is a lease on it")
    nobodys = ending.restart(served, died, ground, wanted="")
    free = ending.restart(new, disturbed, ground, wanted="there is a lease on it")
    events = ground.events.after(0)[0]

    assert (first, nobodys) == (None, None)
    assert again is not None
    assert free is not None
    assert (again.counts, free.counts, new.disturbances) == (True, False, 1)
    assert [(event.kind, event.engine, event.message) for event in events] == [
        (Kind.RESTART, "e-2", "It is started again."),
        (Kind.RESTART, "e-2", "It is given up."),
        (Kind.RESTART, "e-1", "It is started again."),
    ]
