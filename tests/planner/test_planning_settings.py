"""Plans around what a caller has set where vLLM would not go along with the rest of the plan."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB
from tests.fakes.models import asked, planned
from tests.fakes.models import facts as facts_of
from vllmd.planner.choice import Infeasible
from vllmd.planner.planning import plan
from vllmd.planner.use_cases import USE_CASES


@pytest.mark.parametrize("host", ["1xRTX3090", "8xH100"])
def test_a_context_that_vllm_is_to_fit_is_left_to_it(host: str) -> None:
    """-1 is no length that could be too long."""
    assert planned(asked(host, client={"max_model_len": -1})).engine_args["max_model_len"] == -1


def test_a_context_that_vllm_is_to_fit_is_refused_where_none_of_use_fits() -> None:
    """As where nothing is set."""
    found = plan(asked("1xRTX3060", client={"max_model_len": -1}))

    assert isinstance(found, Infeasible)
    assert found.reason == "MODEL_TOO_LARGE"


def test_without_chunked_prefill_the_context_is_one_batch() -> None:
    """vLLM refuses a longest prompt that does not go into a batch; it sees to that itself where no batch is named."""
    whole = planned(asked("1xH200", client={"enable_chunked_prefill": False}))
    wider = planned(asked("1xH200", client={"enable_chunked_prefill": False, "max_num_batched_tokens": 32768}))
    unnamed = planned(asked("1xH200", use_case="download", client={"enable_chunked_prefill": False}))

    assert whole.engine_args["max_model_len"] == whole.engine_args["max_num_batched_tokens"] == 8192
    assert wider.engine_args["max_model_len"] == 32768
    assert unnamed.engine_args["max_model_len"] == 2048
    assert {one.name: one.reason for one in whole.choices}["max_model_len"].startswith("without chunked prefill")


def test_a_cache_that_is_not_there_is_refused_with_what_would_be() -> None:
    """vLLM takes as much as it is told to, whatever the share is, and dies of it."""
    wanted = {"kv_cache_memory_bytes": 6 * GIB, "max_model_len": 2048}
    found = plan(asked("1xRTX3090", client=wanted, taken={0: 0.2}))
    assert isinstance(found, Infeasible)

    assert (found.reason, found.forever) == ("GPU_MEMORY_EXHAUSTED", False)
    possible = int(found.numbers["free_bytes"]) - (int(found.numbers["needed_bytes"]) - 6 * GIB)
    assert found.message.endswith(f"kv_cache_memory_bytes={possible} would fit.")
    fitting = planned(asked("1xRTX3090", client=wanted | {"kv_cache_memory_bytes": possible}, taken={0: 0.2}))
    assert fitting.memory is not None
    assert fitting.memory.free >= 0


def test_a_cache_that_no_such_gpu_has_is_the_callers_mistake() -> None:
    """Nobody waits for an engine to leave for it."""
    found = plan(asked("1xRTX3090", client={"kv_cache_memory_bytes": 60 * GIB}))

    assert isinstance(found, Infeasible)
    assert (found.reason, found.forever, found.invalid) == ("INVALID_ENGINE_ARG", True, True)


@pytest.mark.parametrize("use_case", ["production", "latency", "throughput"])
def test_a_model_that_pools_keeps_its_own_ways_with_prompts(use_case: str) -> None:
    """An encoder gives wrong results with chunks or shared prefixes, so vLLM decides."""
    found = planned(asked("2xRTX3090", "bge-base-en-v1.5", use_case=use_case)).engine_args

    assert {"enable_chunked_prefill", "enable_prefix_caching"}.isdisjoint(found)
    assert found["max_model_len"] == 512


@pytest.mark.parametrize(
    ("host", "model", "use_case"),
    [
        ("1xRTX3090", "gemma-2-9b-it", "download"),
        ("1xRTX4000ADA", "llama-3.1-8b", "download"),
        ("1xRTX4000ADA", "llama-3.1-8b", "debate"),
        ("2xH100", "llama-3.3-70b", "download"),
    ],
)
def test_a_use_case_that_takes_less_than_the_usual_share_takes_more_rather_than_refuse(
    host: str, model: str, use_case: str
) -> None:
    """On a host that nobody else uses a model that fits is loaded, whatever it is for."""
    found = planned(asked(host, model, use_case=use_case))
    share = next(one for one in found.choices if one.name == "gpu_memory_utilization")

    assert share.value > USE_CASES[use_case].share
    assert share.source == "auto"
    assert f"does not fit into the {USE_CASES[use_case].share} of the use case {use_case}" in share.reason
    assert found.engine_args["max_model_len"] == USE_CASES[use_case].context


def test_more_gpus_are_taken_before_a_larger_share() -> None:
    """The share leaves room for others."""
    found = planned(asked("2xRTX3090", "gemma-2-9b-it", use_case="download"))

    assert (len(found.gpus), found.engine_args["gpu_memory_utilization"]) == (2, 0.7)


def test_a_share_that_is_too_small_says_by_how_much() -> None:
    """Though the GPU is empty."""
    found = plan(asked("1xH100", client={"gpu_memory_utilization": 0.1}))

    assert isinstance(found, Infeasible)
    assert 8 * GIB < int(found.numbers["missing_bytes"]) < 9 * GIB
    assert "8.3 GiB is missing there" in found.message


def test_what_would_not_fit_an_empty_gpu_is_not_said_to_wait_for_memory() -> None:
    """Graphs and the sampler's rows come on top of the share, so they count as well."""
    found = plan(asked("2xRTX3090", use_case="production", client={"max_num_seqs": 16384}))

    assert isinstance(found, Infeasible)
    assert (found.reason, found.forever) == ("MODEL_TOO_LARGE", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_model_len", 8192),
        ("tensor_parallel_size", 5),
        ("quantization", "awq"),
        ("dtype", "bfloat17"),
        ("kv_cache_memory_bytes", 60 * GIB),
    ],
)
def test_what_the_host_sets_and_can_not_work_is_no_mistake_of_a_client(name: str, value: object) -> None:
    """Who only asked for a model is not told that the request makes no sense; who set the same is."""
    by_host = plan(asked("1xT4", "opt-125m", host={name: value}))
    by_client = plan(asked("1xT4", "opt-125m", client={name: value}))

    assert isinstance(by_host, Infeasible)
    assert isinstance(by_client, Infeasible)
    assert (by_host.reason, by_host.invalid) == ("INVALID_HOST_ARG", False)
    assert by_client.reason == "INVALID_ENGINE_ARG"
    assert by_client.invalid


def test_a_model_of_experts_fits_as_replicas() -> None:
    """They share the experts out, so that a model goes on as many GPUs as by dividing all of it."""
    found = planned(asked("8xH200", "deepseek-v3", client={"data_parallel_size": 8, "enable_expert_parallel": True}))

    assert found.memory is not None
    assert found.memory.weights < 110 << 30
    assert found.engine_args["tensor_parallel_size"] == 1


def test_blocks_that_are_set_are_the_cache() -> None:
    """vLLM allocates as many, whatever it measured, and serves no longer context than they hold."""
    few = planned(asked("1xRTX4090", client={"num_gpu_blocks_override": 101}))
    many = plan(asked("1xRTX4090", client={"num_gpu_blocks_override": 100_000}))

    assert few.engine_args["max_model_len"] == 1600
    assert few.cache is not None
    assert few.cache.bytes_per_gpu == 101 * 16 * 131_072
    assert isinstance(many, Infeasible)
    assert many.reason == "INVALID_ENGINE_ARG"
    assert "num_gpu_blocks_override=100000 is 195.3 GiB on each GPU" in many.message


def test_a_context_that_the_blocks_do_not_hold_is_refused() -> None:
    """As vLLM does."""
    found = plan(asked("1xRTX4090", client={"num_gpu_blocks_override": 101, "max_model_len": 8192}))

    assert isinstance(found, Infeasible)
    assert found.reason == "KV_CACHE_TOO_SMALL"


def test_room_for_adapters_is_reckoned_with() -> None:
    """They are allocated with the model: 64 of rank 512 take more than any GPU has."""
    plain = planned(asked("1xRTX4090"))
    one = planned(asked("1xRTX4090", client={"enable_lora": True}))
    found = plan(asked("1xRTX4090", client={"enable_lora": True, "max_loras": 64, "max_lora_rank": 512}))

    assert plain.memory is not None
    assert one.memory is not None
    assert one.memory.weights - plain.memory.weights == pytest.approx(2 * 16 * (32 * 81_920 + 2 * 132_352), rel=0.01)
    assert isinstance(found, Infeasible)
    assert found.reason == "MODEL_TOO_LARGE"


def test_not_all_of_a_model_can_be_offloaded() -> None:
    """Its layers can, its embedding and output layer stay: 2 GB of Llama 3.1 8B."""
    found = planned(asked("1xRTX4090", client={"cpu_offload_gb": 100}))

    assert found.memory is not None
    assert found.memory.weights == 2 * 2 * 128_256 * 4096


@pytest.mark.parametrize(
    ("model", "values", "program", "why"),
    [
        ("bge-base-en-v1.5", {"pipeline_parallel_size": 2}, "engine", "does not divide BertModel into stages"),
        ("llama-3.1-8b", {"data_parallel_size": 2}, "llm", "vllm.LLM takes 1 alone"),
        ("llama-3.1-8b", {"enable_expert_parallel": True}, "engine", "the model has no experts"),
    ],
)
def test_what_vllm_does_not_do_with_a_model_is_refused(
    model: str, values: dict[str, Any], program: str, why: str
) -> None:
    """At once, and not at the end of a start."""
    found = plan(asked("2xH100", model, client=values, program=program))

    assert isinstance(found, Infeasible)
    assert found.invalid
    assert why in found.message


def test_a_model_that_vllm_has_no_stages_of_gets_none() -> None:
    """However little fits on one GPU."""
    model = dataclasses.replace(facts_of("llama-3.3-70b"), architecture="Mamba2ForCausalLM", attention_heads=7)

    assert isinstance(plan(asked("8xRTX4090", facts=model)), Infeasible)


@pytest.mark.parametrize("values", [{"max_num_seqs": 100_000, "max_num_batched_tokens": 100_000}])
def test_requests_that_no_gpu_has_room_for_are_not_blamed_on_others(values: dict[str, int]) -> None:
    """Nobody else is there who could leave."""
    found = plan(asked("1xRTX4090", client=values))

    assert isinstance(found, Infeasible)
    assert found.forever
    assert found.reason == "MODEL_TOO_LARGE"
    assert "max_num_seqs" in found.message


@pytest.mark.parametrize("value", ["false", "true", 0, 1, [True]])
@pytest.mark.parametrize("name", ["enforce_eager", "enable_chunked_prefill", "enable_lora"])
def test_a_switch_is_on_or_off(name: str, value: Any) -> None:
    """The plan would take it for one and vLLM for the other."""
    found = plan(asked("1xRTX4090", client={name: value}))

    assert isinstance(found, Infeasible)
    assert found.invalid
    assert f"{name} must be true or false" in found.message


def test_a_generating_model_that_is_to_pool_is_planned_as_one_that_pools() -> None:
    """By vLLM's older model runner, whose graphs are within the share."""
    pools = planned(asked("1xH200", use_case="download", client={"runner": "pooling"}))
    generates = planned(asked("1xH200", use_case="download"))
    assert pools.memory is not None
    assert generates.memory is not None

    assert pools.memory.graphs == 0 < generates.memory.graphs
    assert pools.engine_args["runner"] == "pooling"
    assert "runner" not in generates.engine_args


def test_a_runner_that_vllm_does_not_know_is_left_to_it() -> None:
    """vLLM says what it knows."""
    odd = planned(asked("1xH200", client={"runner": "jogging"}))

    assert odd.memory == planned(asked("1xH200")).memory
