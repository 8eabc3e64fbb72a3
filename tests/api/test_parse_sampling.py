from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.api import parse_sampling
from vllmd.errors import InvalidRequest
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.generation_pb2 import SamplingParams, StructuredOutputs

EVERYTHING: dict[str, Any] = {
    "max_tokens": 5,
    "min_tokens": 1,
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 0,
    "min_p": 0.25,
    "presence_penalty": -2.0,
    "frequency_penalty": 2.0,
    "repetition_penalty": 1.5,
    "seed": 0,
    "stop": ["x"],
    "stop_token_ids": [7],
    "ignore_eos": True,
    "skip_special_tokens": False,
    "n": 3,
    "logprobs": 0,
    "prompt_logprobs": 2,
    "bad_words": ["y"],
    "logit_bias": {3: -100.0},
    "allowed_token_ids": [3, 4],
    "include_stop_str_in_output": False,
    "spaces_between_special_tokens": False,
}


def refusal(**params: Any) -> InvalidRequest:
    """Give the error of sampling parameters that must have one."""
    with pytest.raises(InvalidRequest) as refused:
        parse_sampling.sampling_params(SamplingParams(**params))
    return refused.value


def test_sampling_parameters_are_those_that_were_set() -> None:
    """What is unset is left to the model; a zero or a false that was set is passed on."""
    assert parse_sampling.sampling_params(SamplingParams()) == {}
    assert parse_sampling.sampling_params(SamplingParams(**EVERYTHING)) == EVERYTHING


def test_every_sampling_parameter_of_the_proto_is_passed_on() -> None:
    """A field that is added to the proto and forgotten here shows up."""
    names = {field.name for field in SamplingParams.DESCRIPTOR.fields}

    assert names == EVERYTHING.keys() | {"structured_outputs", "truncate_prompt_tokens"}


def test_a_constraint_comes_along() -> None:
    """As `parse_structured` reads it."""
    params = SamplingParams(structured_outputs=StructuredOutputs(regex="a"))

    assert parse_sampling.sampling_params(params) == {"structured_outputs": {"regex": "a"}}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("max_tokens", 0, "at least 1, not 0"),
        ("max_tokens", -5, "at least 1, not -5"),
        ("min_tokens", -1, "at least 0, not -1"),
        ("temperature", -0.1, "0 to 2, not -0.1"),
        ("temperature", 2.5, "0 to 2, not 2.5"),
        ("temperature", 1e308, "0 to 2, not 1e+308"),
        ("temperature", math.nan, "0 to 2, not nan"),
        ("temperature", math.inf, "0 to 2, not inf"),
        ("top_p", 0.0, "over 0 to 1, not 0"),
        ("top_p", 1.5, "over 0 to 1, not 1.5"),
        ("top_p", math.nan, "over 0 to 1, not nan"),
        ("top_k", -2, "at least -1, not -2"),
        ("min_p", 1.1, "0 to 1, not 1.1"),
        ("min_p", -math.inf, "0 to 1, not -inf"),
        ("presence_penalty", 2.1, "-2 to 2, not 2.1"),
        ("frequency_penalty", math.nan, "-2 to 2, not nan"),
        ("repetition_penalty", 0.0, "0.01 to 100, not 0"),
        ("repetition_penalty", 1e-300, "0.01 to 100, not 1e-300"),
        ("repetition_penalty", 1e308, "0.01 to 100, not 1e+308"),
        ("seed", -1, "not -1"),
        ("n", 0, "1 to 64, not 0"),
        ("n", 65, "1 to 64, not 65"),
        ("logprobs", -1, "at least 0, not -1"),
        ("prompt_logprobs", -1, "at least 0, not -1"),
        ("stop", [""], "an empty string"),
        ("stop", ["a"] * 65, "at most 64, not 65"),
        ("stop", ["a" * 1025], "at most 1024 characters; one has 1025"),
        ("stop_token_ids", [3, -1], "at least 0, not -1"),
        ("stop_token_ids", [3] * 1025, "at most 1024, not 1025"),
        ("bad_words", ["x", ""], "an empty string"),
        ("bad_words", ["x"] * 1001, "at most 1000, not 1001"),
        ("logit_bias", {3: 100.5}, "-100 to 100, not 100.5 for token 3"),
        ("logit_bias", {3: math.nan}, "-100 to 100, not nan for token 3"),
        ("logit_bias", {-3: 1.0}, "at least 0, not -3"),
        ("logit_bias", dict.fromkeys(range(1025), 1.0), "at most 1024 tokens, not 1025"),
        ("allowed_token_ids", [-7], "at least 0, not -7"),
        ("truncate_prompt_tokens", 0, "at least 1, not 0"),
    ],
)
def test_values_out_of_range_are_refused_with_the_range(field: str, value: Any, says: str) -> None:
    """Also those that are no numbers, which compare to nothing."""
    error = refusal(**{field: value})

    assert error.reason == "INVALID_SAMPLING_PARAMS"
    assert error.metadata["field"] == field
    assert says in error.message
    assert [name for name, _ in error.violations] == [f"sampling_params.{field}"]


@pytest.mark.parametrize(
    ("params", "field", "says"),
    [
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens", "at most max_tokens, which is 5, not 6"),
        ({"min_tokens": 5, "max_tokens": 5, "stop": ["x"]}, "min_tokens", "nothing in stop"),
        ({"min_tokens": 5, "max_tokens": 5, "stop_token_ids": [1]}, "min_tokens", "nothing in stop"),
        ({"min_tokens": 1, "stop_token_ids": [1, 2], "allowed_token_ids": [2]}, "min_tokens", "all of allowed"),
        ({"n": 2, "temperature": 0}, "n", "1 with temperature 0"),
        ({"n": 3, "seed": 2**63 - 2}, "seed", "64 bits"),
        ({"ignore_eos": True, "structured_outputs": StructuredOutputs(regex="a")}, "ignore_eos", "would go on"),
    ],
)
def test_contradictions_are_refused(params: dict[str, Any], field: str, says: str) -> None:
    """Each value makes sense, and all of them together none."""
    error = refusal(**params)

    assert error.metadata["field"] == field
    assert says in error.message


def test_a_token_is_allowed_once() -> None:
    """However often it is named."""
    assert parse_sampling.sampling_params(SamplingParams(allowed_token_ids=[3, 1, 3] * 1000))["allowed_token_ids"] == [
        3,
        1,
    ]


def test_what_goes_with_each_prompt_of_a_batch_is_bounded() -> None:
    """A million allowed tokens for one prompt are well, and for each of thousands they are gigabytes."""
    params = {"allowed_token_ids": list(range(1 << 20)), "logit_bias": {1: 1.0}}
    parse_sampling.check_batch(params, 15)
    parse_sampling.check_batch({}, 10_000)
    with pytest.raises(InvalidRequest, match="1048577 tokens, for each of 16 prompts") as refused:
        parse_sampling.check_batch(params, 16)

    assert refused.value.reason == "TOO_MANY_PROMPTS"


def test_all_that_is_wrong_is_told_at_once() -> None:
    """A client corrects a request once, not once for each field."""
    error = refusal(temperature=3.0, top_p=0.0, n=0, stop=[""], min_p=9.0, truncate_prompt_tokens=-1)

    assert error.metadata["fields"] == "n,temperature,min_p,top_p,stop,truncate_prompt_tokens"
    assert len(error.violations) == 6
    assert error.message.endswith("; ….")


def test_what_goes_with_the_prompt_is_told_apart() -> None:
    """Truncation is not vLLM's own; what is unset does not show."""
    everything = pb.GenerateRequest(
        priority=-3, cache_salt="tenant", sampling_params=SamplingParams(truncate_prompt_tokens=9)
    )

    assert parse_sampling.options(pb.GenerateRequest()) == {}
    assert parse_sampling.options(everything) == {
        "priority": -3,
        "cache_salt": "tenant",
        "truncate_prompt_tokens": 9,
    }
    with pytest.raises(InvalidRequest, match="at most 256 characters"):
        parse_sampling.options(pb.GenerateRequest(cache_salt="x" * 257))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.integers(-(2**31), 2**31 - 1),
            "min_tokens": st.integers(-(2**31), 2**31 - 1),
            "temperature": st.floats(),
            "top_p": st.floats(),
            "repetition_penalty": st.floats(),
            "seed": st.integers(-(2**63), 2**63 - 1),
            "n": st.integers(-5, 100),
            "stop": st.lists(st.text(max_size=3), max_size=3),
            "logit_bias": st.dictionaries(st.integers(-5, 2**31 - 1), st.floats(width=32), max_size=3),
            "allowed_token_ids": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        },
    )
)
def test_whatever_comes_is_passed_on_or_refused_by_name(params: dict[str, Any]) -> None:
    """Nothing else is raised, and nothing passes that is not finite."""
    try:
        found, wrong = parse_sampling.sampling_params(SamplingParams(**params)), None
    except InvalidRequest as error:
        found, wrong = {}, error

    assert wrong is None or wrong.reason == "INVALID_SAMPLING_PARAMS"
    named = {name.removeprefix("sampling_params.") for name, _ in wrong.violations} if wrong is not None else set()
    assert found.keys() | named <= params.keys()
    assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))
