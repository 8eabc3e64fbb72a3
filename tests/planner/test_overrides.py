"""What callers set, on many models and hosts: it is kept or refused, and what is planned around it holds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from vllmd.gpu import products
from vllmd.models import files
from vllmd.planner import remedies
from vllmd.planner.choice import Infeasible
from vllmd.planner.planning import Plan
from vllmd.planner.request import Request
from vllmd.planner.use_cases import USE_CASES

MODELS = Path(__file__).parents[1] / "data" / "models"
SOME = ("llama-3.1-8b", "falcon-7b", "deepseek-v2-lite", "bge-base-en-v1.5", "gemma-3-4b-it", "bamba-9b")
HOSTS = ("1xRTX3060", "1xL4", "2xRTX3090", "3xRTX4090", "8xH100", "2xRTX4090,1xH200")
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


def planned(model: str, host: str, use_case: str | None = None, **client: Any) -> Plan | Infeasible:
    """Plan a model of the collection."""
    inventory = products.inventory(host)
    facts = files.read_facts(MODELS / model)
    return remedies.plan(
        Request(client=client, use_case=use_case, facts=facts, gpus=inventory.gpus, links=inventory.links)
    )


def all_plans(**client: Any) -> list[Plan]:
    """Plan all of it, and keep what fits."""
    found = [planned(*which, **client) for which in itertools.product(SOME, HOSTS, (None, *USE_CASES))]
    return [one for one in found if isinstance(one, Plan)]


@pytest.mark.parametrize(
    "client",
    [{}, {"tensor_parallel_size": 2}, {"pipeline_parallel_size": 2}, {"data_parallel_size": 2}],
)
def test_there_are_as_many_gpus_as_the_sizes_come_to(client: dict[str, Any]) -> None:
    """Whoever set them."""
    for plan in all_plans(**client):
        sizes = [plan.engine_args.get(name, 1) for name in PARALLEL]

        assert len(plan.gpus) == sizes[0] * sizes[1] * sizes[2]


def test_a_context_that_vllm_is_to_fit_is_not_refused() -> None:
    """-1 asks for what fits, and not for the model's own."""
    found = planned("llama-3.1-8b", "1xRTX3090", max_model_len=-1)

    assert isinstance(found, Plan)
    assert found.engine_args["max_model_len"] == -1


@pytest.mark.parametrize(
    "client",
    [
        {},
        {"kv_cache_dtype": "fp8"},
        {"max_num_seqs": 8},
        {"enforce_eager": True},
        {"kv_cache_memory_bytes": 2 << 30},
        {"max_model_len": -1},
    ],
)
def test_what_is_planned_fits_the_gpu(client: dict[str, Any]) -> None:
    """All parts together, also of a model that does not say how long its context is."""
    memories = [plan.memory for plan in all_plans(**client)]

    assert len(memories) > 100
    assert all(memory.free >= 0 for memory in memories if memory is not None)


def test_weights_without_a_known_context_have_to_fit() -> None:
    """Falcon's configuration names no length, and its weights are larger than this GPU."""
    found = planned("falcon-7b", "1xRTX3060")

    assert isinstance(found, Infeasible)
    assert found.reason == "MODEL_TOO_LARGE"


def test_an_encoder_has_no_kv_cache() -> None:
    """So what is left of the share stays free."""
    found = planned("bge-base-en-v1.5", "1xL4")

    assert isinstance(found, Plan)
    assert found.memory is not None
    assert found.memory.kv_cache == 0
    assert found.memory.free > 20 << 30


def test_a_kv_cache_that_does_not_fit_is_refused() -> None:
    """vLLM takes the size as it is, and would run out of memory; the message says what would fit."""
    found = planned("llama-3.1-8b", "1xRTX3090", kv_cache_memory_bytes=200 << 30)

    assert isinstance(found, Infeasible)
    assert found.invalid
    fits = int(found.message.rpartition("kv_cache_memory_bytes=")[2].split()[0])
    again = planned("llama-3.1-8b", "1xRTX3090", kv_cache_memory_bytes=fits, max_model_len=8192)
    assert isinstance(again, Plan)
    assert again.memory is not None
    assert again.memory.kv_cache == fits
    assert again.memory.free >= 0
