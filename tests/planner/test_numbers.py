from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest

from tests.fakes.models import asked
from vllmd.planner.arguments import HARMLESS
from vllmd.planner.choice import Draft, Infeasible
from vllmd.planner.numbers import refusal
from vllmd.planner.planning import Plan, plan

ODD: list[Any] = [None, -1, 0, 1, 10**30, 1.5, -2.5, math.inf, math.nan, "abc", "8k", "", True, [], [1], {}]


def draft(**values: Any) -> Draft:
    made = Draft()
    for name, value in values.items():
        made.choose(name, value, "client", "set by the client")
    return made


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tensor_parallel_size", 2),
        ("max_model_len", 8192),
        ("max_model_len", -1),
        ("max_model_len", None),
        ("max_num_seqs", None),
        ("gpu_memory_utilization", 1),
        ("gpu_memory_utilization", 0.35),
        ("cpu_offload_gb", 0),
        ("cpu_offload_gb", None),
        ("kv_cache_memory_bytes", 1 << 30),
        ("max_cudagraph_capture_size", 0),
        ("seed", -7),
    ],
)
def test_numbers_that_vllm_takes_are_let_through(name: str, value: Any) -> None:
    """Also those that mean that vLLM is to choose."""
    assert refusal(draft(**{name: value})) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tensor_parallel_size", "2"),
        ("tensor_parallel_size", None),
        ("pipeline_parallel_size", 0),
        ("data_parallel_size", 1.5),
        ("max_model_len", "8k"),
        ("max_model_len", 0),
        ("max_model_len", True),
        ("max_num_seqs", -1),
        ("max_num_batched_tokens", "2048"),
        ("gpu_memory_utilization", "abc"),
        ("gpu_memory_utilization", None),
        ("gpu_memory_utilization", math.nan),
        ("gpu_memory_utilization", 1.01),
        ("cpu_offload_gb", "4G"),
        ("cpu_offload_gb", -4),
        ("cpu_offload_gb", math.inf),
        ("kv_cache_memory_bytes", "1G"),
        ("kv_cache_memory_bytes", 10**30),
    ],
)
def test_what_is_no_such_number_is_refused_by_name(name: str, value: Any) -> None:
    """With what it must be, so that the caller need not look it up."""
    found = refusal(draft(**{name: value}))

    assert found is not None
    assert found.reason == "INVALID_ENGINE_ARG"
    assert found.message.startswith(f"Engine argument {name} must be a")
    assert found.message.endswith(f"not {value!r}.")
    assert found.invalid


def test_a_hosts_mistake_is_not_the_clients() -> None:
    """Who asked for a model is not told that the request was wrong."""
    found = plan(asked("1xH100", host={"max_model_len": "8k"}))

    assert isinstance(found, Infeasible)
    assert not found.invalid
    assert found.message.endswith("not '8k', as this host's configuration sets it.")


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_no_value_of_any_argument_breaks_the_planner(name: str) -> None:
    """From a client or the host's configuration, with a choice of the rest or without, with GPUs or none."""
    for value, model, source in itertools.product(ODD, ("llama-3.1-8b", None), ("client", "host")):
        one = dataclasses.replace(asked("2xRTX3090", model), **{source: {name: value}})  # type: ignore[arg-type]
        for auto, gpus in itertools.product((True, False), (one.gpus, ())):
            assert isinstance(plan(dataclasses.replace(one, auto=auto, gpus=gpus)), Plan | Infeasible)
