"""What becomes of engines whose GPU falls off the bus, and of those that are to be placed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.fake_gpus import gpu
from tests.fakes.host import Host, hanging, until, wish
from vllmd.engines.restarts import Policy
from vllmd.engines.state import State
from vllmd.errors import Unavailable
from vllmd.events import Kind
from vllmd.scheduler.entry import Entry

QUICK: dict[str, Any] = {
    "reclaim_timeout": 0.05,
    "quarantine_retry": 0.05,
    "restarts": Policy(limit=3, first_delay_seconds=0.0),
}


async def lose(host: Host, uuid: str) -> None:
    """Let a GPU that is known fall off the bus, and look."""
    await look(host)
    host.gpus.lose(uuid)
    await look(host)


async def look(host: Host) -> None:
    """Look, as the watchdog and the scheduler do each second."""
    host.ground.losses.observe(await host.monitor.snapshot())
    host.scheduler.engines.fail_lost()


def gpus(entry: Entry) -> list[str]:
    """Name the GPUs of an engine."""
    assert entry.supervisor.plan is not None
    return [one.uuid for one in entry.supervisor.plan.gpus]


async def test_an_engine_fails_with_its_gpu() -> None:
    """It is killed and not started again, though somebody needs it; the proof is missing, and it says why."""
    async with Host(gpu(0), gpu(1), **QUICK) as host:
        entry, _ = await host.load(wish("fake/a", tensor_parallel_size=1))
        await lose(host, "GPU-0")
        await host.state(entry, State.FAILED)
        supervisor = entry.supervisor

        assert supervisor.failure is not None
        assert supervisor.failure.reason == "GPU_LOST"
        assert supervisor.failure.message.startswith(
            "GPU 0 (GPU-0) fell off the bus (NVML: GPU is lost): look at dmesg"
        )
        assert supervisor.report is not None
        assert not supervisor.report.verified
        assert "as GPU-0 can't be read" in supervisor.report.summary
        assert isinstance(supervisor.error(), Unavailable)
        assert supervisor.restarted == []
        assert gpus(entry) == ["GPU-0"]


async def test_an_engine_that_died_of_it_before_anybody_knew() -> None:
    """What counts is the cause, and not that its memory can't be seen."""
    async with Host(gpu(), **QUICK) as host:
        entry, _ = await host.load(wish())
        await look(host)
        host.gpus.lose("GPU-0")
        host.ground.losses.observe(await host.monitor.snapshot())
        entry.supervisor.stop("a test kills it", force=True)
        await host.state(entry, State.FAILED)

        assert entry.supervisor.failure is not None
        assert entry.supervisor.failure.reason == "GPU_LOST"


async def test_a_start_fails_as_well() -> None:
    """It would hang in the driver."""
    async with Host(gpu(), **QUICK) as host, host.starting(hanging()) as entry:
        await lose(host, "GPU-0")
        await host.state(entry, State.FAILED)

        assert entry.supervisor.failure is not None
        assert entry.supervisor.failure.reason == "GPU_LOST"


async def test_only_the_lost_gpu_is_in_quarantine_until_it_is_back() -> None:
    """The other one of its engine has its memory back, and is used; the engine is proven to be gone in the end."""
    async with Host(gpu(0), gpu(1), **QUICK) as host:
        entry, _ = await host.load(wish("fake/a", tensor_parallel_size=2))
        await lose(host, "GPU-0")
        await until(host.scheduler.engines.changed, lambda: "GPU-0" in host.quarantines)
        free = "GPU-1" not in host.quarantines
        other, _ = await host.load(wish("fake/b", tensor_parallel_size=1))
        host.gpus.set(gpu(0))
        await look(host)
        await until(host.scheduler.engines.changed, lambda: "GPU-0" not in host.quarantines)
        kinds = [event.kind for event in host.ground.events.after(0)[0]]

        assert free
        assert gpus(other) == ["GPU-1"]
        assert entry.supervisor.report is not None
        assert entry.supervisor.report.verified
        assert host.scheduler.engines.unproven.ids == set()
        assert kinds.index(Kind.GPU_LOST) < kinds.index(Kind.QUARANTINE) < kinds.index(Kind.GPU_BACK)


@pytest.mark.parametrize("known", [True, False])
async def test_nothing_starts_on_the_cpu_because_the_gpus_are_gone(known: bool) -> None:
    """Nor on a GPU that only flickers; it does not matter whether anybody has looked."""
    async with Host(gpu(), **QUICK) as host:
        if known:
            await look(host)
        host.gpus.lose("GPU-0")
        with pytest.raises(Unavailable) as gone:
            await host.load(wish())
        assert gone.value.reason == "GPU_LOST"


async def test_a_lost_gpu_is_used_again_once_it_is_known_to_be_back() -> None:
    """And not before: it may flicker."""
    async with Host(gpu(), **QUICK) as host:
        await lose(host, "GPU-0")
        host.gpus.set(gpu())
        with pytest.raises(Unavailable):
            await host.load(wish())
        await look(host)
        entry, _ = await host.load(wish())

        assert gpus(entry) == ["GPU-0"]


async def test_too_few_gpus_are_told_from_gpus_that_are_away() -> None:
    """Lowering the parallel sizes is one way, and waiting another."""
    async with Host(gpu(0), gpu(1), **QUICK) as host:
        await lose(host, "GPU-0")
        with pytest.raises(Unavailable) as gone:
            await host.load(wish("fake/a", tensor_parallel_size=2))

        assert gone.value.reason == "GPU_LOST"
        assert "1 more are lost or in quarantine" in gone.value.message
