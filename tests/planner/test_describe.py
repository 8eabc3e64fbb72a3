from __future__ import annotations

import dataclasses
import json

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.models.facts import ModelFacts
from vllmd.models.parameters import Parameters
from vllmd.models.quantization import Quantization
from vllmd.planner.choice import Choice, Infeasible, Remedy
from vllmd.planner.describe import document, reasons
from vllmd.planner.footprint import KvCache
from vllmd.planner.memory import GpuMemory
from vllmd.planner.planning import Plan

CHOICES = (
    Choice("tensor_parallel_size", 2, "hardware", "two of two"),
    Choice("max_model_len", 8192, "client", "set by the client"),
)
MEMORY = GpuMemory(
    total=80 * GIB, weights=8 * GIB, kv_cache=50 * GIB, activation=2 * GIB, graphs=3 * GIB, other=GIB, held=10 * GIB
)
PLAN = Plan(
    CHOICES,
    (gpu(0, used=1 * GIB), gpu(1, used=10 * GIB)),
    MEMORY,
    KvCache(50 * GIB, 131072, 819200, 100.0),
)
INFEASIBLE = Infeasible(
    "MODEL_TOO_LARGE",
    "It is too large.",
    {"weight_bytes": 90 * GIB, "missing_bytes": 11 * GIB},
    forever=True,
    remedies=(Remedy("kv_cache_dtype=fp8", {"kv_cache_dtype": "fp8"}), Remedy("stopping engine a1", engines=("a1",))),
)
TOP = {
    "feasible", "reasons", "engine_args", "weights_bytes_per_gpu", "kv_cache_bytes_per_gpu", "kv_cache_bytes_per_token",
    "kv_cache_tokens", "max_concurrency", "choices", "gpus", "model", "use_case", "hardware", "notes",
}  # fmt: skip


def test_what_programs_ask_for_is_at_the_top() -> None:
    """By names that they can rely on, all of it as JSON has it."""
    found = json.loads(json.dumps(document(PLAN, model="m", use_case="production", notes=["a note"])))

    assert set(found) == TOP
    assert found["feasible"] is True
    assert found["engine_args"] == {"tensor_parallel_size": 2, "max_model_len": 8192}
    assert found["weights_bytes_per_gpu"] == 8 * GIB
    assert found["kv_cache_bytes_per_gpu"] == 50 * GIB
    assert found["kv_cache_bytes_per_token"] == 131072
    assert found["kv_cache_tokens"] == 819200
    assert found["max_concurrency"] == 100.0
    assert found["use_case"] == "production"


def test_each_choice_has_its_reason() -> None:
    """As a text, and in parts."""
    found = document(PLAN, model="m", notes=["a note"])

    assert found["reasons"] == ["tensor_parallel_size=2: two of two", "max_model_len=8192: set by the client", "a note"]
    assert found["choices"][1] == {
        "name": "max_model_len",
        "value": 8192,
        "source": "client",
        "reason": "set by the client",
    }


def test_each_gpu_has_what_others_hold_there() -> None:
    """What the engine takes is that of the fullest; all parts together are the whole GPU."""
    first, second = (one["memory"] for one in document(PLAN, model="m")["gpus"])

    assert (first["held"], second["held"]) == (1 * GIB, 10 * GIB)
    assert (first["free"], second["free"]) == (15 * GIB, 6 * GIB)
    assert first["weights"] == second["weights"] == 8 * GIB
    for memory in (first, second):
        assert memory["total"] == sum(size for name, size in memory.items() if name != "total")


def test_what_is_not_known_is_null() -> None:
    """Never 0, and the names are there all the same."""
    found = document(dataclasses.replace(PLAN, memory=None, cache=None), model="m")

    assert set(found) == TOP
    assert [found[name] for name in sorted(TOP) if name.startswith(("kv_", "weights_", "max_"))] == [None] * 5
    assert found["gpus"][0]["memory"]["weights"] is None
    assert found["gpus"][0]["memory"]["free"] == 79 * GIB
    assert set(found["model"].values()) == {"m", None}


def test_an_encoder_is_limited_by_no_cache() -> None:
    """None is null, and not a cache of no tokens for no requests."""
    found = document(dataclasses.replace(PLAN, cache=KvCache(0, 0, 0, 0.0)), model="m")

    assert (found["kv_cache_tokens"], found["max_concurrency"]) == (None, None)


def test_the_facts_that_are_worth_seeing() -> None:
    """A model's size, its context, and how it is packed."""
    facts = ModelFacts(
        architecture="LlamaForCausalLM",
        dtype="bfloat16",
        max_model_len=4096,
        weight_bytes=5 * GIB,
        weights_note="a file is missing",
        parameters=Parameters(linear=70, embedding=30),
        quantization=Quantization("awq", 4),
    )

    assert document(PLAN, model="m", facts=facts)["model"] == {
        "name": "m",
        "architecture": "LlamaForCausalLM",
        "parameters": 100,
        "weight_bytes": 5 * GIB,
        "weights_note": "a file is missing",
        "max_model_len": 4096,
        "dtype": "bfloat16",
        "quantization": "awq",
    }


def test_why_there_is_no_plan_and_what_would_help() -> None:
    """The message comes first; the GPUs are those that there are, as they are now."""
    found = json.loads(json.dumps(document(INFEASIBLE, model="m", gpus=[gpu(0, used=GIB), gpu(1)], notes=["a note"])))

    assert set(found) == TOP | {"reason", "message", "numbers", "remedies"}
    assert found["feasible"] is False
    assert found["reasons"][0] == found["message"] == "It is too large."
    assert found["reasons"][-1] == "a note"
    assert found["weights_bytes_per_gpu"] == 90 * GIB
    assert found["engine_args"] == {}
    assert found["numbers"]["missing_bytes"] == 11 * GIB
    assert [one["engines"] for one in found["remedies"]] == [[], ["a1"]]
    assert found["remedies"][0]["engine_args"] == {"kv_cache_dtype": "fp8"}
    assert [one["memory"]["free"] for one in found["gpus"]] == [79 * GIB, 80 * GIB]


def test_remedies_are_among_the_reasons() -> None:
    """For who reads nothing but these."""
    assert "would make it fit: stopping engine a1" in reasons(INFEASIBLE)
