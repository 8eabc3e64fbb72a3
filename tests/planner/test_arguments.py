from __future__ import annotations

from typing import Any

import pytest

from vllmd.errors import InvalidRequest
from vllmd.planner import numbers
from vllmd.planner.arguments import GENERATION_CONFIGS, HARMLESS, LOAD_FORMATS, check, check_host, check_values
from vllmd.planner.choice import PARALLEL_SIZES

RUNS_CODE = (
    "trust_remote_code",
    "worker_cls",
    "worker_extension_cls",
    "scheduler_cls",
    "hf_overrides",
    "distributed_executor_backend",
    "logits_processors",
    "compilation_config",
    "kv_transfer_config",
    "speculative_config",
    "model_loader_extra_config",
)


def test_what_is_harmless_may_be_set() -> None:
    """Everything on the list passes, together."""
    check(HARMLESS)


@pytest.mark.parametrize("name", RUNS_CODE)
def test_what_runs_code_is_refused_with_the_reason(name: str) -> None:
    """The client hears why, and the operator what would allow it."""
    with pytest.raises(InvalidRequest, match=f"{name} is refused: it .*--allow-engine-arg {name}") as refused:
        check(["dtype", name])

    assert refused.value.reason == "ENGINE_ARG_REFUSED"
    assert refused.value.metadata == {"argument": name}


@pytest.mark.parametrize("name", [*RUNS_CODE, "something_of_tomorrow"])
def test_a_host_can_allow_anything(name: str) -> None:
    """What the host's configuration names passes."""
    check([name, "dtype"], allowed=[name])


def test_nothing_is_both_harmless_and_known_to_run_code() -> None:
    """The two lists contradict each other nowhere."""
    assert not HARMLESS.intersection(RUNS_CODE)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("max_model_length", "did you mean max_model_len?"),
        ("tensor_paralel_size", "did you mean tensor_parallel_size?"),
        ("xyzzy", "--allow-engine-arg xyzzy"),
        ("model", "a field of its own"),
        ("revision", "the revision has a field of its own"),
        ("Max_Model_Len", "did you mean max_model_len?"),
        ("--dtype", "did you mean dtype?"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_nearest_name(name: str, hint: str) -> None:
    """A slip of the pen is answered with what was probably meant."""
    with pytest.raises(InvalidRequest) as refused:
        check([name])

    assert hint in refused.value.message
    assert not refused.value.message.endswith("?.")


@pytest.mark.parametrize("value", [*sorted(LOAD_FORMATS), None])
def test_vllms_own_weight_loaders_may_be_chosen(value: str | None) -> None:
    """They read weights and run nothing that a client brings."""
    check_values({"load_format": value})


@pytest.mark.parametrize("value", [*sorted(GENERATION_CONFIGS), None])
def test_the_models_or_vllms_defaults_may_be_chosen(value: str | None) -> None:
    """Neither names a place to read from."""
    check_values({"generation_config": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("load_format", "my_plugin"),
        ("load_format", "runai_streamer"),
        ("load_format", "npcache"),
        ("load_format", "../auto"),
        ("load_format", ["auto"]),
        ("load_format", {"auto": 1}),
        ("generation_config", "/etc"),
        ("generation_config", "someone/else"),
        ("generation_config", 7),
    ],
)
def test_values_that_load_by_name_or_path_are_refused(name: str, value: Any) -> None:
    """A harmless argument does not become a way to a plugin or a file, unless the host allows it."""
    with pytest.raises(InvalidRequest, match="none of") as refused:
        check_values({name: value})
    check_values({name: value}, allowed=[name])

    assert refused.value.reason == "ENGINE_ARG_REFUSED"


@pytest.mark.parametrize("name", PARALLEL_SIZES)
@pytest.mark.parametrize("value", [0, -1, 1.5, "two", True, None, [2]])
def test_a_number_of_parts_is_a_whole_number_from_1(name: str, value: Any) -> None:
    """What a plan calculates with must be a number, or no engine of it would ever start."""
    with pytest.raises(InvalidRequest, match="whole number") as refused:
        check_values({name: value})
    check_values({name: 2})

    assert refused.value.reason == "INVALID_ENGINE_ARG"


@pytest.mark.parametrize("name", [*numbers._SIZES, "max_model_len"])
@pytest.mark.parametrize("value", [0, -2, 1.5, "8k", "", True, [2], {}])
def test_a_size_is_a_whole_number_from_1(name: str, value: Any) -> None:
    """What a plan would stumble over is refused by name; null leaves it to vLLM."""
    with pytest.raises(InvalidRequest, match=f"{name} must be a whole number") as refused:
        check_values({name: value})
    check_values({name: 8192})
    check_values({name: None})

    assert refused.value.reason == "INVALID_ENGINE_ARG"


def test_a_context_that_vllm_is_to_fit() -> None:
    """It has a number of its own for that, which no other size has."""
    check_values({"max_model_len": -1})
    with pytest.raises(InvalidRequest):
        check_values({"max_num_seqs": -1})


@pytest.mark.parametrize("value", [-1, "abc", [], [1], True, {"a": 1}, float("nan"), float("inf"), 1e12])
def test_what_is_offloaded_is_a_number(value: Any) -> None:
    """Of GiB, which a host can have; null is none."""
    check_values({"cpu_offload_gb": None})
    check_values({"cpu_offload_gb": 1.5})
    with pytest.raises(InvalidRequest, match="cpu_offload_gb must be a number of GiB"):
        check_values({"cpu_offload_gb": value})


@pytest.mark.parametrize("value", [0, -0.5, 1.01, "half", True, None, float("nan")])
def test_a_share_of_memory_is_over_0_and_at_most_1(value: Any) -> None:
    """A share that no GPU has is the client's mistake, not a lack of memory."""
    with pytest.raises(InvalidRequest, match="gpu_memory_utilization must be a number over 0") as refused:
        check_values({"gpu_memory_utilization": value})

    assert refused.value.reason == "INVALID_ENGINE_ARG"


@pytest.mark.parametrize("value", [0.01, 0.9, 1, 1.0])
def test_any_real_share_of_memory_may_be_asked_for(value: float) -> None:
    """Whether it is free is for the plan to say."""
    check_values({"gpu_memory_utilization": value})


def test_a_host_may_set_more_than_its_clients() -> None:
    """What runs code is its own to run, and what it fetches models with; but a name that nobody knows is a mistake."""
    check_host({"trust_remote_code": True, "download_dir": "/models", "hf_token": "secret", "max_num_seqs": 8})
    check_host({"of_a_later_vllm": 1}, allowed=["of_a_later_vllm"])
    with pytest.raises(InvalidRequest, match="did you mean max_model_len"):
        check_host({"max_model_length": 8})
    with pytest.raises(InvalidRequest, match="max_num_seqs must be a whole number"):
        check_host({"max_num_seqs": 0})
