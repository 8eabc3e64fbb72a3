"""What becomes of GPUs on which an engine is not proven to be gone."""

from __future__ import annotations

import pathlib

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import Host, until, wish
from vllmd.engines.reclaim import Remains, Report
from vllmd.engines.state import State
from vllmd.errors import Unavailable
from vllmd.gpu.ledger import Expectation
from vllmd.scheduler.unproven import kept
from vllmd.worker.tree import Tree

REMAINS = Remains(
    Tree("e-1", None, None, pathlib.Path("/e")),
    pathlib.Path("/e"),
    expected=(Expectation("GPU-0", 1), Expectation("GPU-1", 2)),
)


@pytest.mark.parametrize(
    ("names", "left"), [((), ["GPU-0", "GPU-1"]), (("GPU-1",), ["GPU-1"]), (("GPU-0", "GPU-1"), ["GPU-0", "GPU-1"])]
)
def test_only_gpus_that_are_not_proven_are_looked_at_again(names: tuple[str, ...], left: list[str]) -> None:
    """All of them where the report names none: then it is something else that is not proven."""
    report = Report(False, "Not proven.", kept=names)

    assert [one.uuid for one in kept(REMAINS, report).expected] == left


async def test_a_gpu_that_keeps_the_memory_is_in_quarantine_until_it_lets_go() -> None:
    """No engine is placed there; once NVML shows the memory back, the GPU is used again and the report says so."""
    async with Host(gpu(), reclaim_timeout=0.05, quarantine_retry=0.05) as host:
        bad, _ = await host.load(wish("fake/bad"))
        host.gpus.leak("GPU-0", GIB)
        await host.scheduler.stop(bad.supervisor.id, True, "a test kills it")
        await until(host.scheduler.engines.changed, lambda: "GPU-0" in host.quarantines)
        with pytest.raises(Unavailable) as refused:
            await host.load(wish("fake/good"))
        host.gpus.set(gpu())
        await until(host.scheduler.engines.changed, lambda: "GPU-0" not in host.quarantines)
        good, _ = await host.load(wish("fake/good"))

        assert refused.value.reason == "GPU_QUARANTINED"
        assert State.READY is good.supervisor.state
        assert State.FAILED is bad.supervisor.state
        assert bad.supervisor.report is not None
        assert bad.supervisor.report.verified
        assert host.scheduler.engines.unproven.ids == set()
