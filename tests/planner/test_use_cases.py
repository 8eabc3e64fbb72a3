from __future__ import annotations

import re
from typing import Any, get_args

import pytest

from tests.fakes.models import asked, planned
from vllmd import config
from vllmd.cli.options.use_case import Name
from vllmd.planner import use_cases
from vllmd.planner.request import Program
from vllmd.planner.use_cases import GENERAL, USE_CASES, UseCase, named
from vllmd.v1.engine_pb2 import UseCase as Message

SPREADS = {
    "all": "all that divide the heads",
    "fewest": "as few as it fits on",
    "island": "one NVLink island",
    "replicas": "as few as it fits on, and as many replicas",
}
SEEDS: dict[str, dict[str, Any]] = {
    "production": {
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.9,
        "max_model_len": 8192,
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 8192,
        "enable_sleep_mode": True,
        "disable_custom_all_reduce": True,
    },
    "download": {
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.7,
        "max_model_len": 2048,
        "enforce_eager": True,
        "enable_sleep_mode": True,
        "disable_custom_all_reduce": True,
    },
    "debate": {
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.8,
        "max_model_len": 4096,
        "enable_sleep_mode": True,
        "disable_custom_all_reduce": True,
    },
}
"""What the project's first users had on two RTX 3090."""


def arguments(host: str, use_case: str | None, model: str = "llama-3.1-8b", **request: Any) -> dict[str, Any]:
    return planned(asked(host, model, use_case=use_case, **request)).engine_args


def rows() -> dict[str, list[str]]:
    """The table in the module's docstring, by name."""
    lines = re.findall(r"^\| (\w+|\(none\)) +\|(.*)\|$", use_cases.__doc__ or "", re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


@pytest.mark.parametrize("use_case", [GENERAL, *USE_CASES.values()], ids=lambda one: one.name or "none")
def test_the_table_says_what_is_chosen(use_case: UseCase) -> None:
    """It is what people read; the data is what is done."""
    gpus, share, context, at_once, besides = rows()[use_case.name or "(none)"]
    set_beyond = {name: value for name, value, _ in use_case.arguments}
    words = {
        "enable_chunked_prefill": "chunked prefill",
        "enforce_eager": "eager",
        "enable_sleep_mode": "sleep mode",
        "enable_prefix_caching": "prefix caching",
    }

    assert gpus == SPREADS[use_case.spread]
    assert float(share) == use_case.share
    assert context == (str(use_case.context) if use_case.context else "the model's")
    assert set(filter(None, besides.split(", "))) == {words[name] for name in set_beyond if name in words}
    numbers = {int(number) for number in re.findall(r"\d+", at_once)}
    assert numbers <= {set_beyond.get("max_num_batched_tokens"), set_beyond.get("max_num_seqs")}
    assert (at_once == "as vLLM's server has them") == use_case.server_sizes
    assert (at_once == "vLLM's default") == (
        not use_case.server_sizes and not numbers and "tokens" not in str(set_beyond)
    )


def test_every_list_of_use_cases_has_the_same() -> None:
    """The table, the daemon's settings, the command line and the proto."""
    messages = {name.removeprefix("USE_CASE_").lower() for name in Message.DESCRIPTOR.values_by_name} - {"unspecified"}

    assert list(USE_CASES) == list(get_args(config.UseCase)) == list(Name) == list(rows())[1:]
    assert set(USE_CASES) == messages


def test_a_use_case_is_found_by_its_name() -> None:
    """Without one it is the general one, and there is none of any other name."""
    assert named("debate") is USE_CASES["debate"]
    assert named(None) is named("") is GENERAL
    assert named("Debate") is None


@pytest.mark.parametrize("host", ["2xRTX3090", "2xRTX3090+nvlink"])
@pytest.mark.parametrize("program", get_args(Program))
@pytest.mark.parametrize("use_case", SEEDS)
def test_on_two_rtx_3090_plans_are_what_worked_there(host: str, program: Program, use_case: str) -> None:
    """To the letter: these users would notice. No peer access of GeForce boards can be relied on, bridge or not."""
    assert arguments(host, use_case, program=program) == SEEDS[use_case]


@pytest.mark.parametrize(
    ("host", "use_case", "expected"),
    [
        ("8xH100", "production", {"tensor_parallel_size": 8, "max_num_batched_tokens": 8192, "max_num_seqs": 1024}),
        ("8xH100", "production", {"disable_custom_all_reduce": False, "max_model_len": 8192}),
        ("8xH100", "download", {"tensor_parallel_size": 1, "enforce_eager": True, "max_model_len": 2048}),
        ("8xH100", "latency", {"tensor_parallel_size": 8, "max_num_seqs": 32, "max_model_len": 131072}),
        ("8xH100", "throughput", {"tensor_parallel_size": 1, "data_parallel_size": 8, "max_num_seqs": 1024}),
        ("8xH100", None, {"tensor_parallel_size": 8, "max_num_seqs": 1024, "max_model_len": 131072}),
        ("1xH200", "production", {"tensor_parallel_size": 1, "max_num_seqs": 1024, "max_model_len": 8192}),
        ("1xH200", "latency", {"tensor_parallel_size": 1, "max_num_batched_tokens": 2048, "max_num_seqs": 32}),
        ("1xH200", "throughput", {"max_num_batched_tokens": 16384, "max_num_seqs": 1024, "max_model_len": 32768}),
        ("4xL40S", "production", {"tensor_parallel_size": 4, "disable_custom_all_reduce": True}),
        ("4xL40S", "debate", {"tensor_parallel_size": 1, "gpu_memory_utilization": 0.8, "max_model_len": 4096}),
        ("4xL40S", "latency", {"tensor_parallel_size": 1, "max_model_len": 131072}),
        ("4xL40S", "throughput", {"data_parallel_size": 4, "max_num_batched_tokens": 8192, "max_num_seqs": 512}),
        ("4xL40S", None, {"tensor_parallel_size": 4, "max_num_batched_tokens": 2048, "max_num_seqs": 256}),
    ],
)
def test_on_other_hosts_the_same_intent_is_followed(host: str, use_case: str | None, expected: dict[str, Any]) -> None:
    """By what there is: how many GPUs, how large, and how they are joined."""
    assert expected.items() <= arguments(host, use_case).items()


@pytest.mark.parametrize("host", ["8xH100", "1xH200"])
@pytest.mark.parametrize("use_case", ["download", "debate", "throughput"])
def test_one_gpu_among_joined_ones_has_nothing_to_say_of_reducing(host: str, use_case: str) -> None:
    """vLLM's own choice is right there."""
    assert "disable_custom_all_reduce" not in arguments(host, use_case)


@pytest.mark.parametrize("use_case", [None, *USE_CASES])
@pytest.mark.parametrize(("model", "most"), [("opt-125m", 2048), ("phi-3-mini-4k", 4096), ("bge-base-en-v1.5", 512)])
def test_a_context_is_never_longer_than_the_models(use_case: str | None, model: str, most: int) -> None:
    """vLLM would refuse it."""
    expected = min(most, USE_CASES[use_case].context or most) if use_case else most

    assert arguments("2xRTX3090", use_case, model)["max_model_len"] == expected


@pytest.mark.parametrize("use_case", USE_CASES)
def test_a_share_is_lowered_to_what_is_free(use_case: str) -> None:
    """Beside an engine that is there already."""
    found = arguments("1xH100", use_case, taken={0: 0.5})

    assert 0.3 < found["gpu_memory_utilization"] < 0.5


@pytest.mark.parametrize("use_case", USE_CASES)
def test_of_a_model_that_is_not_known_yet_the_rest_of_a_use_case_holds(use_case: str) -> None:
    """On one GPU, with what context vLLM finds to fit, as nobody knows the model's."""
    found = planned(asked("2xRTX3090", None, use_case=use_case))
    wanted = {name: value for name, value, _ in USE_CASES[use_case].arguments}

    assert found.engine_args["tensor_parallel_size"] == 1
    assert found.engine_args["max_model_len"] == -1
    assert found.engine_args["gpu_memory_utilization"] == USE_CASES[use_case].share
    assert wanted.items() <= found.engine_args.items()


@pytest.mark.parametrize("use_case", USE_CASES)
def test_what_a_caller_sets_counts_before_a_use_case(use_case: str) -> None:
    """A use case is for what is left open."""
    client = {"max_model_len": 1024, "gpu_memory_utilization": 0.75, "enable_sleep_mode": False}

    assert client.items() <= arguments("2xRTX3090", use_case, client=client).items()


def test_two_debaters_have_a_gpu_each() -> None:
    """The second one goes where the first is not."""
    first = planned(asked("2xRTX3090", use_case="debate"))
    second = planned(asked("2xRTX3090", use_case="debate", taken={first.gpus[0].index: 0.8}))

    assert [one.index for one in (*first.gpus, *second.gpus)] == [0, 1]
