from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.gpu import products
from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind
from vllmd.planner.choice import Infeasible
from vllmd.planner.planning import CPU_KV_BYTES, Plan, plan
from vllmd.planner.profile import Profile
from vllmd.planner.request import Request

MODELS = pathlib.Path(__file__).parents[1] / "data" / "models"
LLAMA_8B = ModelFacts(
    attention_heads=32, kv_heads=8, head_dim=128, kinds=(Kind.FULL,) * 32, max_model_len=131072, weight_bytes=16 * GIB
)
LLAMA_3B = ModelFacts(
    attention_heads=24, kv_heads=8, head_dim=128, kinds=(Kind.FULL,) * 28, max_model_len=131072, weight_bytes=6 * GIB
)


def feasible(client: dict[str, Any], facts: ModelFacts | None, gpus: list[Gpu], auto: bool = True) -> Plan:
    found = plan(Request(client=client, facts=facts, gpus=tuple(gpus), auto=auto))
    assert isinstance(found, Plan), found
    return found


def infeasible(client: dict[str, Any], facts: ModelFacts | None, gpus: list[Gpu], auto: bool = True) -> Infeasible:
    found = plan(Request(client=client, facts=facts, gpus=tuple(gpus), auto=auto))
    assert isinstance(found, Infeasible), found
    return found


def test_an_empty_gpu_gets_the_usual_share_and_the_models_own_context() -> None:
    """Where there is room for everything, nothing is cut, and every choice has its reason."""
    found = feasible({}, LLAMA_8B, [gpu()])

    assert found.engine_args == {
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.9,
        "max_num_batched_tokens": 8192,
        "max_num_seqs": 1024,
        "max_model_len": 131072,
    }
    assert [choice.source for choice in found.choices] == ["hardware", "auto", "auto", "auto", "model"]
    assert all(choice.reason for choice in found.choices)


def test_a_shorter_context_where_the_cache_is_small() -> None:
    """On a 24 GiB card the context is what the KV cache holds, and the reason names both."""
    found = feasible({}, LLAMA_8B, [gpu(total=24 * GIB)])
    context = found.choices[-1]
    assert found.memory is not None

    assert context.value == int(found.memory.kv_cache * 0.98) // (128 << 10) // 16 * 16 - 16
    assert "131072" in context.reason


def test_no_gpu_means_the_cpu() -> None:
    """Without GPUs only the KV cache is bounded, unless the client did that itself."""
    assert feasible({"seed": 1}, LLAMA_8B, []).engine_args == {"seed": 1, "kv_cache_memory_bytes": CPU_KV_BYTES}
    assert feasible({"kv_cache_memory_bytes": 7}, None, []).engine_args == {"kv_cache_memory_bytes": 7}
    assert feasible({}, LLAMA_8B, [], auto=False).engine_args == {}


def test_nothing_is_chosen_without_auto_config() -> None:
    """The arguments are the client's alone, on as many GPUs as they ask for."""
    args = {"tensor_parallel_size": 2}
    found = feasible(args, LLAMA_8B, [gpu(0), gpu(1), gpu(2)], auto=False)

    assert found.engine_args == args
    assert len(found.gpus) == 2
    assert len(feasible({}, LLAMA_8B, [gpu(0), gpu(1)], auto=False).gpus) == 1


@pytest.mark.parametrize(
    ("facts", "gpus", "size"),
    [
        (LLAMA_8B, 1, 1),
        (LLAMA_8B, 2, 2),
        (LLAMA_8B, 3, 2),
        (LLAMA_8B, 8, 8),
        (LLAMA_3B, 3, 2),
        (LLAMA_3B, 6, 4),
        (None, 8, 1),
    ],
)
def test_as_many_gpus_as_divide_the_heads(facts: ModelFacts | None, gpus: int, size: int) -> None:
    """vLLM splits query heads evenly, and those of keys and values as well; 24 heads with 8 do not go on 3 GPUs."""
    found = feasible({}, facts, [gpu(index) for index in range(gpus)])

    assert found.engine_args["tensor_parallel_size"] == size
    assert len(found.gpus) == size


def test_stages_that_the_client_wants_share_the_gpus() -> None:
    """With two pipeline stages each gets half of the GPUs, and the client's own number stays."""
    found = feasible({"pipeline_parallel_size": 2}, LLAMA_8B, [gpu(0), gpu(1)])

    assert found.engine_args["tensor_parallel_size"] == 1
    assert len(found.gpus) == 2


def test_the_freest_gpus_are_taken() -> None:
    """They are named in the host's order, whatever is free on them."""
    gpus = [gpu(0, used=60 * GIB), gpu(1, used=1 * GIB), gpu(2, used=30 * GIB), gpu(3)]
    found = feasible({"tensor_parallel_size": 2}, LLAMA_8B, gpus)

    assert [taken.index for taken in found.gpus] == [1, 3]


def test_more_gpus_than_there_are() -> None:
    """It can never fit this host, and the message has both numbers."""
    found = infeasible({"tensor_parallel_size": 4, "pipeline_parallel_size": 2}, LLAMA_8B, [gpu(0), gpu(1)])

    assert found.reason == "NOT_ENOUGH_GPUS"
    assert found.forever
    assert found.numbers == {"wanted_gpus": 8, "gpus": 2}
    assert "8 GPUs" in found.message


def test_a_share_that_is_not_free_is_refused_with_one_that_works() -> None:
    """The client's value is not lowered in silence."""
    found = infeasible({"gpu_memory_utilization": 0.9}, LLAMA_8B, [gpu(used=40 * GIB)])
    nearest = feasible({"gpu_memory_utilization": 0.49}, LLAMA_8B, [gpu(used=40 * GIB)])

    assert found.reason == "GPU_MEMORY_EXHAUSTED"
    assert not found.forever
    assert "0.493 would work now" in found.message
    assert nearest.engine_args["gpu_memory_utilization"] == 0.49


def test_a_full_gpu() -> None:
    """Where next to nothing is free the plan says so, with the numbers, and that it may change."""
    found = infeasible({}, LLAMA_8B, [gpu(used=79 * GIB)])

    assert (found.reason, found.forever) == ("GPU_MEMORY_EXHAUSTED", False)
    assert found.numbers == {"gpu": 0, "free_bytes": GIB, "total_bytes": 80 * GIB}


def test_weights_that_no_gpu_holds() -> None:
    """Weights larger than the GPUs themselves never fit; those that others are in the way of may, later."""
    large = dataclasses.replace(LLAMA_8B, weight_bytes=140 * GIB)
    never = infeasible({}, large, [gpu()])
    later = infeasible({}, LLAMA_8B, [gpu(used=62 * GIB)])

    assert (never.reason, never.forever) == ("MODEL_TOO_LARGE", True)
    assert (later.reason, later.forever) == ("GPU_MEMORY_EXHAUSTED", False)


def test_what_is_not_known_is_left_to_vllm() -> None:
    """A model that has yet to be fetched gets the length that vLLM finds to fit."""
    found = feasible({}, None, [gpu()])

    assert found.engine_args["max_model_len"] == -1


def test_a_group_of_gpus_that_are_alike_is_taken() -> None:
    """And the reason says so; only a caller's own sizes go beyond it."""
    host = products.inventory("1xH200,2xRTX4090")
    found = plan(Request(facts=LLAMA_8B, gpus=host.gpus, links=host.links))
    three = plan(Request(facts=LLAMA_8B, gpus=host.gpus, client={"pipeline_parallel_size": 3}))
    assert isinstance(found, Plan)
    assert isinstance(three, Plan)

    assert [taken.product for taken in found.gpus] == ["NVIDIA H200"]
    assert "of 3 GPUs of 2 kinds, only such of one kind: NVIDIA H200" in found.choices[0].reason
    assert len(three.gpus) == 3


def test_an_engine_is_not_divided_among_slices() -> None:
    """Each MIG slice is a GPU by itself."""
    slices = [dataclasses.replace(gpu(n, total=40 * GIB), mig_parent="GPU-9") for n in range(2)]
    found = feasible({}, LLAMA_8B, slices)
    refused = infeasible({"tensor_parallel_size": 2}, LLAMA_8B, slices)

    assert len(found.gpus) == found.engine_args["tensor_parallel_size"] == 1
    assert refused.reason == "NOT_ENOUGH_GPUS"
    assert "MIG" in refused.message


def test_what_an_earlier_load_took_is_gone_by() -> None:
    """Its figures in place of those that are worked out, and the reason names the version that it ran under."""
    facts = dataclasses.replace(LLAMA_8B, fingerprint="f")
    seen = Profile(vllm_version="0.25.1", weights_bytes=17 * GIB, activation_bytes=GIB, other_bytes=GIB // 4)
    asked = Request(facts=facts, gpus=(gpu(total=24 * GIB),))
    first = plan(asked)
    assert isinstance(first, Plan)
    assert first.profile_key is not None
    then = plan(dataclasses.replace(asked, profiles={first.profile_key: seen}.get))
    assert isinstance(then, Plan)
    assert then.memory is not None

    assert (then.memory.weights, then.memory.activation) == (17 * GIB, GIB)
    assert then.memory.kv_cache == int(24 * GIB * 0.9) - 17 * GIB - GIB - GIB // 4
    context = then.choices[-1]
    assert (context.name, context.source) == ("max_model_len", "profile")
    assert context.reason.endswith("reckoned with what an earlier load like this took, under vLLM 0.25.1")
    assert then.profile_key == first.profile_key


def test_a_host_fills_what_its_clients_leave_open() -> None:
    """And a client goes before it."""
    asked = Request(
        client={"seed": 1}, host={"seed": 2, "enforce_eager": True}, use_case="debate", facts=LLAMA_8B, gpus=(gpu(),)
    )
    found = plan(asked)
    assert isinstance(found, Plan)
    chosen = {choice.name: (choice.value, choice.source) for choice in found.choices}

    assert chosen["seed"] == (1, "client")
    assert chosen["enforce_eager"] == (True, "host")
    assert chosen["max_model_len"] == (4096, "use case")


def test_a_use_case_that_is_none() -> None:
    """It is refused with those that there are."""
    found = plan(Request(use_case="prod", facts=LLAMA_8B, gpus=(gpu(),)))
    assert isinstance(found, Infeasible)

    assert (found.reason, found.invalid) == ("INVALID_USE_CASE", True)
    assert "production, download, debate, latency, throughput" in found.message
