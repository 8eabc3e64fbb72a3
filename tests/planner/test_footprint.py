from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB
from tests.fakes.models import asked, facts, planned
from vllmd.models.facts import ModelFacts
from vllmd.planner.choice import Draft
from vllmd.planner.footprint import Footprint, measure
from vllmd.planner.memory import Sizes
from vllmd.planner.precision import Precision
from vllmd.planner.profile import Profile

LLAMA = facts("llama-3.1-8b")
PROFILE = Profile(vllm_version="0.25.1", weights_bytes=15 * GIB, activation_bytes=2 * GIB, other_bytes=GIB)


def measured(
    of: ModelFacts | None = LLAMA, cache: float | None = 2.0, profile: Profile | None = None, **values: Any
) -> Footprint | None:
    draft = Draft()
    for name, value in values.items():
        draft.choose(name, value, "client", "set by the client")
    sizes = Sizes(
        tokens=2048,
        sequences=256,
        tensor_parallel=draft.count("tensor_parallel_size", 1) or 1,
        eager=draft.get("enforce_eager") is True,
    )
    return measure(draft, Precision(of, None, cache), sizes, profile)


def footprint(of: ModelFacts | None = LLAMA, profile: Profile | None = None, **values: Any) -> Footprint:
    found = measured(of, profile=profile, **values)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "missing",
    [
        None,
        ModelFacts(),
        dataclasses.replace(LLAMA, kinds=None),
        dataclasses.replace(LLAMA, kv_heads=None),
        dataclasses.replace(LLAMA, parameters=None),
    ],
)
def test_nothing_is_reckoned_of_what_is_not_known(missing: ModelFacts | None) -> None:
    """A guess would refuse models that fit."""
    assert measured(missing) is None


def test_a_cache_of_an_unknown_type_is_not_reckoned() -> None:
    """Its values may be of any size."""
    assert measured(cache=None) is None


def test_what_is_taken_is_the_sum_of_its_parts() -> None:
    """Without CUDA graphs that come on top, and never more than there is for the cache."""
    found = footprint()

    assert found.taken == found.weights + found.activation + found.other + found.graphs_within
    assert found.pool(found.taken + GIB) == GIB
    assert found.pool(found.taken - 1) == found.pool(0) == 0


def test_two_gpus_hold_half_of_the_weights_each() -> None:
    """But for norms."""
    assert footprint(tensor_parallel_size=2).weights == pytest.approx(footprint().weights / 2, rel=0.01)


@pytest.mark.parametrize(("offloaded", "left"), [(4, 11.0), (4.5, 10.5), (0, 15.0), (None, 15.0), (64, 1.96)])
def test_what_is_offloaded_to_the_host_is_not_on_a_gpu(offloaded: Any, left: float) -> None:
    """It can't be more than its layers."""
    assert footprint(cpu_offload_gb=offloaded).weights / GIB == pytest.approx(left, abs=0.05)


def test_without_graphs_nothing_comes_on_top_for_them() -> None:
    """Only the sampler's warm-up is left."""
    assert footprint(enforce_eager=True).graphs_beyond < footprint().graphs_beyond


def test_an_earlier_load_counts_before_any_rule() -> None:
    """What came on top of its share is what NVML saw beyond all that vLLM had counted; else that is reckoned."""
    found = footprint(profile=PROFILE)
    graphs = footprint(profile=dataclasses.replace(PROFILE, graphs_bytes=5 * GIB))
    seen = dataclasses.replace(PROFILE, graphs_bytes=1, kv_cache_bytes=GIB, peak_bytes=22 * GIB)

    assert (found.weights, found.activation, found.other) == (15 * GIB, 2 * GIB, GIB)
    assert found.graphs_beyond == footprint().graphs_beyond
    assert graphs.graphs_beyond == 5 * GIB
    assert footprint(profile=seen).graphs_beyond == 22 * GIB - (15 + 2 + 1 + 1) * GIB


def test_on_a_gpu_every_byte_is_accounted_for() -> None:
    """What the engine takes, what others hold, and what is free make the whole."""
    found = footprint()
    there = found.on(80 * GIB, 3 * GIB, 10 * GIB)

    assert there.kv_cache == 10 * GIB
    assert there.free == 80 * GIB - 3 * GIB - 10 * GIB - found.taken - found.graphs_beyond


def test_a_cache_says_how_much_context_it_holds() -> None:
    """128 KiB a token in this model, so 4 GiB are four requests of 8192."""
    found = footprint().cache(4 * GIB, 8192, 131072)

    assert (found.bytes_per_gpu, found.bytes_per_token) == (4 * GIB, 131072)
    assert (found.tokens, found.max_concurrency) == (32768, 4.0)
    assert footprint().cache(0, 8192, None).tokens == 0
    assert footprint().cache(GIB, 0, None).max_concurrency == 0.0


@pytest.mark.parametrize(("dtype", "size"), [("auto", 131072), ("fp8", 65536)])
def test_a_plan_says_what_a_token_takes(dtype: str, size: int) -> None:
    """In the type of the cache, over all layers and GPUs."""
    for host in ("1xH100", "2xRTX3090"):
        cache = planned(asked(host, client={"kv_cache_dtype": dtype})).cache
        assert cache is not None
        assert cache.bytes_per_token == size
