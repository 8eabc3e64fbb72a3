from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.gpu.inventory import Gpu, GpuProcess
from vllmd.planner.choice import Draft, Infeasible
from vllmd.planner.share import MARGIN_BYTES, SMALLEST, holders, of, settle


def settled(*gpus: Gpu, wanted: Any = None, usual: float = 0.9, beyond: int = 0, named: str = "") -> Draft | Infeasible:
    draft = Draft()
    if wanted is not None:
        draft.choose("gpu_memory_utilization", wanted, "client", "set by the client")
    return settle(draft, gpus, usual, beyond, named) or draft


def share(found: Draft | Infeasible) -> float:
    assert isinstance(found, Draft), found
    return float(found.get("gpu_memory_utilization"))


def refusal(found: Draft | Infeasible) -> Infeasible:
    assert isinstance(found, Infeasible)
    return found


@pytest.mark.parametrize(("named", "source"), [("", "auto"), ("download", "use case")])
def test_where_nothing_is_in_the_way_the_share_is_the_usual(named: str, source: str) -> None:
    """The reason says for whom it is usual."""
    found = settled(gpu(), usual=0.7, named=named)
    assert isinstance(found, Draft)

    assert share(found) == 0.7
    assert found.source("gpu_memory_utilization") == source
    assert named in found.choices[0].reason


def test_a_reason_of_its_own_is_given() -> None:
    """Of a share that is usual neither for the use case nor in general."""
    found = settle(draft := Draft(), [gpu()], 0.45, 0, "", why="as much as the KV cache takes")

    assert found is None
    assert draft.choices[0].reason == "as much as the KV cache takes; that much is free"


def test_bytes_become_a_share_that_people_can_read() -> None:
    """Never less than the bytes, and never more than there is."""
    assert of(10 * GIB, [gpu(total=24 * GIB), gpu(total=80 * GIB)]) == 0.417
    assert of(30 * GIB, [gpu(total=24 * GIB)]) == 1.0


def test_a_share_leaves_room_for_what_comes_on_top_of_it() -> None:
    """CUDA graphs are outside of it, and so is what others may take meanwhile."""
    found = settled(gpu(total=80 * GIB, used=20 * GIB), beyond=4 * GIB)
    assert isinstance(found, Draft)

    assert share(found) == pytest.approx((56 * GIB - MARGIN_BYTES) / (80 * GIB), abs=0.001)
    assert found.source("gpu_memory_utilization") == "hardware"
    assert found.choices[0].reason == "GPU 0 has 60.0 GiB of 80.0 GiB free, and 4.0 GiB comes on top for CUDA graphs"


def test_the_tightest_gpu_decides_for_all() -> None:
    """vLLM takes one share for all of an engine's GPUs."""
    assert share(settled(gpu(0), gpu(1, used=40 * GIB), gpu(2))) < 0.5


def test_what_comes_on_top_is_counted_on_each_gpu() -> None:
    """On a smaller one it is more of the whole, so another may be the tightest than by what is free."""
    small, large = gpu(0, 24 * GIB, used=4 * GIB), gpu(1, 80 * GIB, used=15 * GIB)
    found = share(settled(small, large, beyond=4 * GIB))

    assert all(found * one.total_bytes + 4 * GIB + MARGIN_BYTES <= one.free_bytes for one in (small, large))


def test_a_share_that_was_set_is_kept_where_it_is_free() -> None:
    """And half of what is reckoned to come on top of it, which is more than comes there mostly."""
    assert share(settled(gpu(used=4 * GIB), wanted=0.95)) == 0.95
    assert share(settled(gpu(used=3 * GIB), wanted=0.95, beyond=2 * GIB)) == 0.95
    found = refusal(settled(gpu(used=4 * GIB), wanted=0.95, beyond=2 * GIB))

    assert "of which CUDA graphs and buffers take 2.0 GiB on top. 0.918 would work now." in found.message


def test_a_share_that_is_not_free_on_any_of_the_gpus_is_refused_with_what_is() -> None:
    """With who holds the rest, as far as the driver says how much."""
    held = dataclasses.replace(gpu(1, used=40 * GIB), processes=(GpuProcess(7, 39 * GIB), GpuProcess(8, None)))
    found = refusal(settled(gpu(0), held, wanted=0.6))

    assert (found.reason, found.forever, found.invalid) == ("GPU_MEMORY_EXHAUSTED", False, False)
    assert found.message == (
        "gpu_memory_utilization=0.6 asks for 48.0 GiB of GPU 1, and 40.0 GiB is free "
        "(held by pid 7: 39.0 GiB, pid 8). 0.493 would work now."
    )
    assert found.numbers["missing_bytes"] == pytest.approx(8 * GIB, abs=2)


def test_a_share_is_looked_at_on_every_gpu_of_a_mixed_host() -> None:
    """Not only on the one that has the least beyond the margin."""
    small, large = gpu(0, 24 * GIB, used=24 * GIB - int(21.7 * GIB)), gpu(1, 80 * GIB, used=80 * GIB - int(71.9 * GIB))

    assert "of GPU 1" in refusal(settled(small, large, wanted=0.9)).message


def test_where_nothing_of_use_would_work_the_refusal_says_so() -> None:
    """Rather than naming a share of next to nothing."""
    assert refusal(settled(gpu(used=79 * GIB), wanted=0.5)).message.endswith("Nothing of use would work now.")


@pytest.mark.parametrize(
    "one", [gpu(used=79 * GIB), gpu(used=80 * GIB), gpu(total=0), Gpu("x", 0, "X", GIB, 2 * GIB, -GIB)]
)
def test_a_gpu_with_nothing_left_is_refused(one: Gpu) -> None:
    """Also one of which the driver tells nothing sensible."""
    found = refusal(settled(one))

    assert (found.reason, found.forever) == ("GPU_MEMORY_EXHAUSTED", False)
    assert found.message.endswith("Stop an engine, or end what else is on it.")


def test_a_share_is_never_smaller_than_one_of_use() -> None:
    """What is chosen serves somebody."""
    just = gpu(used=int(80 * GIB * (1 - SMALLEST)) - MARGIN_BYTES - (1 << 27))

    assert share(settled(just)) >= SMALLEST


def test_the_largest_holders_are_named() -> None:
    """A few of them; on a GPU that nobody holds, nobody is."""
    many = dataclasses.replace(gpu(), processes=tuple(GpuProcess(pid, pid * GIB) for pid in range(1, 9)))

    assert holders(many) == " (held by pid 8: 8.0 GiB, pid 7: 7.0 GiB, pid 6: 6.0 GiB, pid 5: 5.0 GiB)"
    assert holders(gpu()) == ""


def test_an_engine_of_ours_is_named_by_its_name() -> None:
    """Its pids are in no table that people look at."""
    held = dataclasses.replace(gpu(), processes=(GpuProcess(7, 2 * GIB, "qwen3-8b-3f2a"), GpuProcess(8, GIB)))

    assert holders(held) == " (held by engine qwen3-8b-3f2a: 2.0 GiB, pid 8: 1.0 GiB)"
