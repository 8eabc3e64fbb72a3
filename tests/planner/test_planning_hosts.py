"""Plans on hosts that are out of the ordinary: of several kinds of GPUs, of MIG slices, or with odd numbers."""

from __future__ import annotations

import dataclasses

import pytest

from tests.fakes.models import asked, planned
from vllmd.planner.choice import Infeasible
from vllmd.planner.planning import Plan, plan
from vllmd.planner.request import Request

DIVIDED = {"tensor_parallel_size": 2}


def indices(found: Plan) -> list[int]:
    return [one.index for one in found.gpus]


def sliced(request: Request, *slices: int) -> Request:
    """The same with some GPUs as MIG slices of one."""
    gpus = [dataclasses.replace(one, mig_parent="GPU-P") if one.index in slices else one for one in request.gpus]
    return dataclasses.replace(request, gpus=tuple(gpus))


def test_an_engine_is_on_gpus_of_one_kind_and_says_so() -> None:
    """The larger kind, unless others hold it."""
    found = planned(asked("2xRTX3090,1xH200"))

    assert indices(found) == [2]
    assert found.choices[0].reason.endswith("of 3 GPUs of 2 kinds, only such of one kind: NVIDIA H200")
    assert indices(planned(asked("2xRTX3090,1xH200", taken={2: 0.99}))) == [0, 1]


@pytest.mark.parametrize("use_case", ["download", "debate"])
def test_where_few_gpus_are_wanted_one_of_another_kind_is_better_than_two(use_case: str) -> None:
    """Though the small ones have more left in all."""
    assert indices(planned(asked("4xRTX3060,1xL40S", taken={4: 0.4}, use_case=use_case))) == [4]


def test_stages_come_last_on_all_kinds() -> None:
    """What fits one GPU of another kind is not spread over the layers of several small ones."""
    found = planned(asked("7xRTX3060,1xL40S", "falcon-7b", taken={7: 0.1}))

    assert "pipeline_parallel_size" not in found.engine_args
    assert indices(found) == [7]


def test_sizes_that_no_kind_has_are_taken_from_several() -> None:
    """They were set, so they are kept; slices are still left out."""
    request = asked("1xL40S,1xRTXA6000,2xL4", client=DIVIDED)

    assert indices(planned(sliced(request, 2, 3))) == [0, 1]


@pytest.mark.parametrize("auto", [True, False])
def test_no_engine_is_divided_among_mig_slices(auto: bool) -> None:
    """vLLM would fail on them; also where the client wants nothing chosen."""
    found = plan(sliced(asked("2xH100", client=DIVIDED, auto=auto), 0, 1))

    assert isinstance(found, Infeasible)
    assert found.reason == "NOT_ENOUGH_GPUS"
    assert "can't be divided among MIG slices" in found.message


@pytest.mark.parametrize("use_case", [None, "production", "download", "debate", "latency", "throughput"])
def test_a_model_takes_one_mig_slice(use_case: str | None) -> None:
    """The one with most left, whatever it is for."""
    found = planned(sliced(asked("3xRTX3090", taken={0: 0.2, 2: 0.1}, use_case=use_case), 0, 1, 2))

    assert indices(found) == [1]
    assert found.engine_args["tensor_parallel_size"] == 1
    assert "data_parallel_size" not in found.engine_args


def test_fewer_empty_gpus_are_better_than_more_that_somebody_is_on() -> None:
    """Where all are wanted: two of four GPUs are in use, and an engine on all four would be left half of each."""
    found = planned(asked("4xH100", "llama-3.1-8b", taken={0: 0.5, 1: 0.5}))

    assert indices(found) == [2, 3]
    assert found.engine_args["gpu_memory_utilization"] == 0.9
    assert indices(planned(asked("4xH100", "llama-3.1-8b", taken={0: 0.05}))) == [0, 1, 2, 3]


def test_experts_are_divided_among_all_gpus_for_throughput() -> None:
    """As replicas of them would be no copies: vLLM divides experts among these as well."""
    assert len(planned(asked("4xH100", "qwen3-30b-a3b", use_case="throughput")).gpus) == 4
