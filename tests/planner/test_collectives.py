from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import pytest

from tests.fakes.models import asked, planned
from tests.fakes.models import facts as facts_of
from vllmd.gpu import products
from vllmd.models.facts import read
from vllmd.models.quantization import Quantization
from vllmd.planner.choice import Infeasible
from vllmd.planner.planning import Plan, plan
from vllmd.planner.request import Request

MODELS = pathlib.Path(__file__).parents[1] / "data" / "models"
LLAMA = read(json.loads((MODELS / "llama-3.1-8b" / "config.json").read_text()))


def llama(host: str, use_case: str = "") -> Plan:
    """Llama 3.1 8B on a host."""
    there = products.inventory(host)
    found = plan(Request(use_case=use_case, facts=LLAMA, gpus=there.gpus, links=there.links))
    assert isinstance(found, Plan)
    return found


def reduces(host: str, use_case: str = "") -> object:
    """Whether custom all-reduce is switched off; None if that is left to vLLM."""
    return llama(host, use_case).engine_args.get("disable_custom_all_reduce")


@pytest.mark.parametrize(
    ("host", "off"),
    [("2xH100", False), ("4xL40S", True), ("2xRTX3090", True), ("2xRTX3090+nvlink", True), ("1xH100", None)],
)
def test_gpus_reduce_through_each_others_memory_where_that_is_reliable(host: str, off: bool | None) -> None:
    """NVLink between all of them, on server boards; a single GPU has nothing to reduce."""
    assert reduces(host) is off


@pytest.mark.parametrize(("host", "off"), [("1xRTX3090", True), ("4xL40S", True), ("1xH200", None), ("8xH100", None)])
def test_a_use_case_says_so_for_a_single_gpu_as_well(host: str, off: bool | None) -> None:
    """By the host that it is on: whoever takes the arguments along to more of its GPUs is on the safe side."""
    assert reduces(host, "debate") is off


@pytest.mark.parametrize(("use_case", "alone"), [("production", False), ("debate", True)])
def test_the_reason_is_true_of_one_gpu_too(use_case: str, alone: bool) -> None:
    """Where nobody wonders what its GPU could not reach."""
    found = llama("2xRTX3090", use_case)
    reason = next(one.reason for one in found.choices if one.name == "disable_custom_all_reduce")

    assert reason.startswith("one GPU has nothing to reduce") is alone
    assert reason.endswith("GeForce boards do not reach each other's memory reliably")


def test_experts_in_blocks_are_divided_whole() -> None:
    """Where a part of one would be no whole number of blocks, which vLLM refuses to load."""
    config = json.loads((MODELS / "qwen3-30b-a3b" / "config.json").read_text())
    packed = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    plain, blocks = read(config), read(config | {"quantization_config": packed})
    host = products.inventory("4xH100")
    divided = plan(Request(facts=blocks, gpus=host.gpus, links=host.links))
    usual = plan(Request(facts=plain, gpus=host.gpus, links=host.links))
    assert isinstance(divided, Plan)
    assert isinstance(usual, Plan)

    assert divided.engine_args["enable_expert_parallel"] is True
    assert "enable_expert_parallel" not in usual.engine_args


@pytest.mark.parametrize("settings", [{"tensor_parallel_size": 8}, {"data_parallel_size": 8}])
def test_experts_in_blocks_are_divided_whole_by_replicas_too(settings: dict[str, Any]) -> None:
    """vLLM cuts experts by tensors times replicas, and 96 columns of Qwen3 30B's are no whole block."""
    model = dataclasses.replace(facts_of("qwen3-30b-a3b"), quantization=Quantization("fp8", 8, blocks=True))
    found = planned(asked("8xH100", client=settings, facts=model))
    refused = plan(asked("8xH100", client=settings | {"enable_expert_parallel": False}, facts=model))

    assert found.engine_args["enable_expert_parallel"] is True
    assert isinstance(refused, Infeasible)
    assert refused.invalid
    assert "96 of an expert's 768 columns" in refused.message
