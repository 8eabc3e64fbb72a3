from __future__ import annotations

import dataclasses
import enum
from typing import Any

import msgspec
import pytest

from vllmd.worker.backend import InvalidRequest
from vllmd.worker.protocol import Candidate
from vllmd.worker.vllm_sampling import Sampling, candidates


class Kind(enum.Enum):
    DELTA = 1
    FINAL_ONLY = 2


class VLLMClientError(Exception):
    """Of the name, if not the make, of vLLM's."""


@dataclasses.dataclass
class Structured:
    regex: str | None = None

    def __post_init__(self) -> None:
        if self.regex is None:
            raise VLLMClientError("one constraint is needed")


class Params(msgspec.Struct):
    """As vLLM's, as far as it takes to see what becomes of values."""

    n: int = 1
    temperature: float = 1.0
    max_tokens: int | None = 16
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    logit_bias: dict[int, float] | None = None
    structured_outputs: Structured | None = None
    output_kind: Kind = Kind.DELTA

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError("temperature must be non-negative")
        if self.temperature > 2:
            raise VLLMClientError("temperature must be at most 2")


SAMPLING = Sampling(Params, Structured, Kind, {"temperature": 0.5}, vocab_size=512, max_logprobs=20)


@dataclasses.dataclass
class Logprob:
    """vLLM's."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


def test_a_clients_values_go_over_the_models() -> None:
    """And nobody's are as many tokens as fit, in increments."""
    plain, given = SAMPLING.params({}), SAMPLING.params({"temperature": 1.5, "n": 2.0}, whole=True)

    assert plain == Params(temperature=0.5, max_tokens=None, output_kind=Kind.DELTA)
    assert given == Params(n=2, temperature=1.5, max_tokens=None, output_kind=Kind.FINAL_ONLY)


def test_a_constraint_becomes_vllms() -> None:
    """By its own class, whose checks count."""
    assert SAMPLING.params({"structured_outputs": {"regex": "a"}}).structured_outputs == Structured("a")


@pytest.mark.parametrize(
    ("given", "reason", "text"),
    [
        ({"temprature": 1}, "INVALID_SAMPLING_PARAMS", "did you mean 'temperature'"),
        ({"temperature": "hot"}, "INVALID_SAMPLING_PARAMS", "temperature: expected `float`"),
        ({"temperature": float("nan")}, "INVALID_SAMPLING_PARAMS", "not a finite number"),
        ({"temperature": -1.0}, "INVALID_SAMPLING_PARAMS", "non-negative"),
        ({"temperature": 3.0}, "INVALID_SAMPLING_PARAMS", "at most 2"),
        ({"output_kind": 1}, "INVALID_SAMPLING_PARAMS", "no such sampling parameter"),
        ({"logprobs": 21}, "INVALID_SAMPLING_PARAMS", "logprobs: this engine gives 0 to 20"),
        ({"prompt_logprobs": 21}, "INVALID_SAMPLING_PARAMS", "prompt_logprobs: this engine gives 0 to 20"),
        ({"stop_token_ids": [512]}, "TOKEN_OUT_OF_VOCABULARY", "stop_token_ids: token ids outside"),
        ({"allowed_token_ids": [512]}, "TOKEN_OUT_OF_VOCABULARY", "allowed_token_ids: token ids outside"),
        ({"logit_bias": {512: 1.0}}, "TOKEN_OUT_OF_VOCABULARY", "logit_bias: token ids outside"),
        ({"structured_outputs": {"regx": "a"}}, "INVALID_STRUCTURED_OUTPUTS", "regx"),
        ({"structured_outputs": {"regex": None}}, "INVALID_STRUCTURED_OUTPUTS", "one constraint is needed"),
    ],
)
def test_what_vllm_could_not_take_is_refused(given: dict[str, Any], reason: str, text: str) -> None:
    """Whether it says so itself or would break at it."""
    with pytest.raises(InvalidRequest) as refused:
        SAMPLING.params(given)

    assert refused.value.reason == reason
    assert text in str(refused.value)


def test_all_log_probabilities_are_as_many_as_tokens() -> None:
    """vLLM says so by -1."""
    sampling = Sampling(Params, Structured, Kind, {}, vocab_size=512, max_logprobs=-1)

    assert sampling.params({"logprobs": 512}).logprobs == 512
    with pytest.raises(InvalidRequest, match="gives 0 to 512"):
        sampling.params({"logprobs": 513})


def test_candidates_are_read_in_vllms_order() -> None:
    """The chosen token first; what vLLM does not know is empty."""
    places = [None, {7: Logprob(-2.0, 3, "a"), 9: Logprob(-0.5, 1, "b")}, {1: Logprob(-1.0)}]

    assert candidates(None) is None
    assert candidates(places) == [
        [],
        [Candidate(7, -2.0, 3, "a"), Candidate(9, -0.5, 1, "b")],
        [Candidate(1, -1.0, 0, "")],
    ]
