from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import Host, hanging, wish
from tests.fakes.rules import change
from vllmd.engines.state import State
from vllmd.errors import Exhausted, InvalidRequest, Unavailable
from vllmd.scheduler import outlook, placement
from vllmd.scheduler.wish import Wish

LLAMA = str(Path(__file__).parents[1] / "data" / "models" / "llama-3.1-8b")


async def test_a_look_ahead_changes_nothing() -> None:
    """Neither engines, nor the journal, nor what the ledger knows of the GPUs."""
    async with Host(gpu(used=GIB)) as host:
        found = await outlook.look(host.scheduler, Wish(LLAMA))
        floor = host.ground.ledger.expectation(gpu(used=5 * GIB)).floor_bytes

        assert found.plan.gpus
        assert (found.shared, found.blocking) == ("", ())
        assert host.scheduler.engines.entries() == []
        assert floor == 5 * GIB  # as of one that nobody has looked at yet


async def test_an_engine_that_would_be_shared_is_named_with_its_plan() -> None:
    """Its memory is in the way of a second one, which would not be started."""
    async with Host(gpu()) as host:
        entry, _ = await host.load(wish(LLAMA))
        host.gpus.occupy("GPU-0", 75 * GIB, pid=max(entry.supervisor.known_pids))
        found = await outlook.look(host.scheduler, wish(LLAMA))

        assert found == outlook.Outlook(plan=found.plan, shared=entry.supervisor.id)
        assert found.plan is entry.supervisor.plan


async def test_an_engine_that_waits_itself_is_planned_for() -> None:
    """It has no plan yet, and would be shared."""
    async with Host(gpu()) as host:
        with host.scheduler.engines.waiting():
            with host.scheduler.loading(wish()) as entry:
                found = await outlook.look(host.scheduler, wish())
                unplanned = entry.supervisor.plan is None

        assert unplanned
        assert found.shared == entry.supervisor.id


async def test_who_starts_on_the_same_gpu_is_waited_for() -> None:
    """On another there is nobody in the way; on the CPU one starts at a time."""
    for gpus in ((gpu(),), ()):
        async with Host(*gpus) as host, host.starting(hanging(gpu_memory_utilization=0.1)) as entry:
            found = await outlook.look(host.scheduler, wish(gpu_memory_utilization=0.1))

            assert found.blocking == (entry.supervisor.id,)
    async with Host(gpu(0), gpu(1)) as host, host.starting(hanging(gpu_memory_utilization=0.1)) as entry:
        plan = entry.supervisor.plan
        assert plan is not None
        host.gpus.occupy(plan.gpus[0].uuid, 79 * GIB, pid=1)
        found = await outlook.look(host.scheduler, wish(gpu_memory_utilization=0.1))

        assert found.blocking == ()


async def test_who_holds_the_memory_and_is_on_its_way_out_is_waited_for() -> None:
    """A load would be started once it is gone; while it stays nothing can be planned."""
    async with Host(gpu(), stop_grace=60.0) as host:
        entry, _ = await host.load(wish(fake_ignore_sigterm=True, gpu_memory_utilization=0.1))
        host.gpus.occupy("GPU-0", 75 * GIB, pid=max(entry.supervisor.known_pids))
        with pytest.raises(Exhausted, match=f"stopping engine {entry.supervisor.id}") as refused:
            await outlook.look(host.scheduler, Wish(LLAMA))
        entry.supervisor.stop("a test stops it")
        state = entry.supervisor.state
        found = await outlook.look(host.scheduler, Wish(LLAMA))
        host.gpus.set(gpu())

        assert refused.value.reason == "GPU_MEMORY_EXHAUSTED"
        assert "engine" not in refused.value.metadata
        assert state is State.STOPPING
        assert found.blocking == (entry.supervisor.id,)
        assert found.plan.gpus


async def test_what_is_refused_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a load is: by the rules, when too many wait, and while the daemon leaves."""
    monkeypatch.setattr(placement, "MOST_PENDING", 0)
    async with Host(gpu()) as host:

        async def refusal(wanted: Wish) -> Any:
            with pytest.raises((Exhausted, InvalidRequest, Unavailable)) as refused:
                await outlook.look(host.scheduler, wanted)
            return refused.value.reason

        change(host.ground.live, allowed_engine_args=())
        refusals = [await refusal(Wish("m", engine_args={"hf_overrides": {}})), await refusal(wish())]
        host.scheduler.upgrading = True
        refusals.append(await refusal(wish()))
        host.scheduler.upgrading = False

        assert refusals == ["ENGINE_ARG_REFUSED", "QUEUE_FULL", "UPGRADING"]
