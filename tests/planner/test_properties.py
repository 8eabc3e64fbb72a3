"""What holds for every plan, whatever the model, the GPUs and the use case."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from vllmd.gpu import products
from vllmd.gpu.inventory import Gpu, Inventory
from vllmd.models.facts import ModelFacts, read
from vllmd.planner import remedies
from vllmd.planner.choice import Infeasible
from vllmd.planner.planning import Plan, plan
from vllmd.planner.request import Request, Tenant
from vllmd.planner.use_cases import USE_CASES

MODELS = pathlib.Path(__file__).parents[1] / "data" / "models"
FACTS: dict[str, ModelFacts] = {
    path.parent.name: read(json.loads(path.read_text())) for path in sorted(MODELS.glob("*/config.json"))
}
HOSTS = [
    "1xRTX3060", "2xRTX3090", "3xRTX4090", "1xT4", "2xV100", "4xL40S", "1xH100", "8xH100", "1xH200", "4xA100-40GB",
    "4xRTX3090+nvlink", "2xRTX3090,1xH200", "4xRTX3060,1xL40S",
]  # fmt: skip

models = st.sampled_from(sorted(FACTS))
use_cases = st.sampled_from([None, *USE_CASES])
shares = st.floats(0, 1)


@st.composite
def hosts(draw: st.DrawFn) -> Inventory:
    """A host from the catalogue, on which others hold some of each GPU."""
    host = products.inventory(draw(st.sampled_from(HOSTS)))
    return dataclasses.replace(host, gpus=tuple(held(gpu, draw(shares)) for gpu in host.gpus))


def held(gpu: Gpu, share: float) -> Gpu:
    """A GPU of which others hold a share of what was free."""
    taken = int(gpu.free_bytes * share)
    return dataclasses.replace(gpu, used_bytes=gpu.used_bytes + taken, free_bytes=gpu.free_bytes - taken)


def request(model: str, host: Inventory, use_case: str | None, **client: Any) -> Request:
    """Ask for a plan on a host."""
    return Request(client=client, use_case=use_case, facts=FACTS[model], gpus=host.gpus, links=host.links)


@given(models, hosts(), use_cases)
def test_what_is_planned_is_there(model: str, host: Inventory, use_case: str | None) -> None:
    """Everything together is never more than the GPU has, and the share never more than what is free."""
    found = plan(request(model, host, use_case))
    assume(isinstance(found, Plan) and found.memory is not None)
    assert isinstance(found, Plan)
    assert found.memory is not None

    assert found.memory.free >= 0
    share = found.engine_args["gpu_memory_utilization"]
    assert all(share * gpu.usable_bytes <= gpu.free_bytes for gpu in found.gpus)
    inside = found.memory.weights + found.memory.kv_cache + found.memory.activation + found.memory.other
    assert inside <= share * min(gpu.usable_bytes for gpu in found.gpus)


@given(models, hosts(), use_cases)
def test_a_model_is_divided_as_vllm_can(model: str, host: Inventory, use_case: str | None) -> None:
    """Heads are divided evenly, and there are as many GPUs as the parts."""
    found = plan(request(model, host, use_case))
    assume(isinstance(found, Plan))
    assert isinstance(found, Plan)
    facts, arguments = FACTS[model], found.engine_args
    size = arguments["tensor_parallel_size"]
    parts = size * arguments.get("pipeline_parallel_size", 1) * arguments.get("data_parallel_size", 1)

    assert len(found.gpus) == len({gpu.uuid for gpu in found.gpus}) == parts
    assert (facts.attention_heads or size) % size == 0
    assert len({gpu.product for gpu in found.gpus}) == 1


@given(models, hosts(), use_cases)
def test_what_vllm_would_refuse_is_not_planned(model: str, host: Inventory, use_case: str | None) -> None:
    """A context within the model's, a batch that holds every request, and a reason for each."""
    found = plan(request(model, host, use_case))
    assume(isinstance(found, Plan))
    assert isinstance(found, Plan)
    arguments, facts = found.engine_args, FACTS[model]

    assert arguments["max_model_len"] <= (facts.max_model_len or arguments["max_model_len"])
    if "max_num_seqs" in arguments and "max_num_batched_tokens" in arguments:
        assert arguments["max_num_seqs"] <= arguments["max_num_batched_tokens"]
    assert all(choice.reason and choice.source for choice in found.choices)


@given(models, hosts(), use_cases, st.data())
def test_more_memory_never_gives_a_worse_plan(
    model: str, host: Inventory, use_case: str | None, data: st.DataObject
) -> None:
    """Where a plan is possible it stays so, and its context does not get shorter."""
    less = tuple(held(gpu, data.draw(shares)) for gpu in host.gpus)
    before = plan(request(model, dataclasses.replace(host, gpus=less), use_case))
    assume(isinstance(before, Plan))
    assert isinstance(before, Plan)
    after = plan(request(model, host, use_case))

    assert isinstance(after, Plan)
    assert after.engine_args["max_model_len"] >= before.engine_args["max_model_len"]


OVERRIDES = {
    "tensor_parallel_size": st.integers(1, 8),
    "gpu_memory_utilization": st.floats(0.1, 1.0),
    "max_model_len": st.integers(1, 200_000),
    "max_num_seqs": st.integers(1, 4096),
    "max_num_batched_tokens": st.integers(1, 65_536),
    "enforce_eager": st.booleans(),
    "kv_cache_dtype": st.sampled_from(["auto", "fp8", "bfloat16", "int4_per_token_head", "turboquant"]),
    "quantization": st.sampled_from(["fp8", "awq", "gptq", "mxfp8"]),
    "dtype": st.sampled_from(["auto", "bfloat16", "float16", "float32"]),
    "kv_cache_memory_bytes": st.integers(1 << 20, 1 << 36),
    "enable_expert_parallel": st.booleans(),
    "enable_prefix_caching": st.booleans(),
    "disable_custom_all_reduce": st.booleans(),
    "pipeline_parallel_size": st.integers(1, 4),
    "data_parallel_size": st.integers(1, 4),
    "attention_backend": st.sampled_from(["FLASH_ATTN", "TRITON_ATTN"]),
    "cpu_offload_gb": st.floats(0, 64),
    "enable_chunked_prefill": st.booleans(),
}
settings = st.fixed_dictionaries({}, optional=OVERRIDES)


@given(models, hosts(), use_cases, settings, st.booleans())
def test_what_is_set_is_kept_or_refused(
    model: str, host: Inventory, use_case: str | None, client: dict[str, Any], auto: bool
) -> None:
    """By the caller or by the host: never rewritten; and a refusal says why, in words and for programs."""
    asked = dataclasses.replace(request(model, host, use_case), client=client, auto=auto)
    for one in (asked, dataclasses.replace(asked, client={}, host=client)):
        found = remedies.plan(one)
        if isinstance(found, Infeasible):
            assert found.message.endswith((".", "`")), found.message
            assert found.reason.isupper()
        else:
            kept = {name: value for name, value in found.engine_args.items() if name in client}
            if one.client or auto:
                assert kept == client


@given(models, hosts(), use_cases, settings, st.sets(st.integers(0, 7)))
def test_around_what_is_set_the_rest_fits(
    model: str, host: Inventory, use_case: str | None, client: dict[str, Any], slices: set[int]
) -> None:
    """As many GPUs as parts, none of them a slice among others, and no more memory than there is nor longer prompts."""
    gpus = tuple(dataclasses.replace(gpu, mig_parent="P") if gpu.index in slices else gpu for gpu in host.gpus)
    found = plan(dataclasses.replace(request(model, host, use_case, **client), gpus=gpus))
    if isinstance(found, Infeasible):
        return  # as most of what is drawn here is; with `assume`, now and then Hypothesis would give up
    arguments = found.engine_args
    sizes = (arguments.get(f"{name}_parallel_size", 1) for name in ("tensor", "pipeline", "data"))

    assert len(found.gpus) == math.prod(sizes)
    assert len(found.gpus) == 1 or not any(gpu.mig_parent for gpu in found.gpus)
    if found.memory is not None and "gpu_memory_utilization" not in client:
        assert found.memory.free >= 0
    if arguments.get("enable_chunked_prefill") is False and "max_num_batched_tokens" in arguments:
        assert arguments["max_model_len"] <= arguments["max_num_batched_tokens"]


@given(models, hosts(), use_cases, settings, st.lists(st.tuples(st.integers(0, 7), shares), max_size=3))
def test_every_remedy_works(
    model: str, host: Inventory, use_case: str | None, client: dict[str, Any], held_by: list[tuple[int, float]]
) -> None:
    """Whoever does what it says gets a plan."""
    gpus = [(host.gpus[index % len(host.gpus)], share / len(held_by)) for index, share in held_by]
    tenants = {f"e{n}": {gpu.uuid: int(gpu.used_bytes * share)} for n, (gpu, share) in enumerate(gpus)}
    asked = request(model, host, use_case, **client)
    asked = dataclasses.replace(asked, tenants=tuple(Tenant(name, used) for name, used in tenants.items()))
    found = remedies.plan(asked)
    for remedy in found.remedies if isinstance(found, Infeasible) else ():
        given_back = {gpu.uuid: sum(tenants[name].get(gpu.uuid, 0) for name in remedy.engines) for gpu in host.gpus}
        left = tuple(
            dataclasses.replace(
                gpu, used_bytes=gpu.used_bytes - given_back[gpu.uuid], free_bytes=gpu.free_bytes + given_back[gpu.uuid]
            )
            for gpu in host.gpus
        )
        if remedy.engine_args or remedy.engines:
            helped = dataclasses.replace(asked, client={**client, **remedy.engine_args}, gpus=left)
            assert isinstance(plan(helped), Plan)
