from __future__ import annotations

import enum
import typing
from typing import Any

import pytest

from vllmd.worker import vllm_arguments as arguments
from vllmd.worker.backend import InvalidRequest


class Level(enum.IntEnum):
    LOW = 0


KNOWN = {"max_model_len": int, "max_num_seqs": int, "gpu_memory_utilization": float}


def test_unknown_names_come_with_the_closest_known_ones() -> None:
    with pytest.raises(ValueError, match="no such engine argument: 'max_modellen'") as caught:
        arguments.refuse_unknown(["max_num_seqs", "max_modellen", "swap_space"], KNOWN, "engine argument")

    assert str(caught.value).endswith("'max_modellen' (did you mean 'max_model_len'?); 'swap_space'")


def test_known_names_pass() -> None:
    arguments.refuse_unknown(KNOWN, KNOWN, "engine argument")


@pytest.mark.parametrize(
    ("value", "hint", "becomes"),
    [
        (512.0, int, 512),
        (512.0, int | None, 512),
        (512.0, typing.Optional[int], 512),  # noqa: UP045 - what vLLM's older hints look like
        (512.0, typing.Annotated[int | None, "positive"], 512),
        (16.0, typing.Literal[8, 16], 16),
        (0.0, Level, 0),
        ([1.0, 2.0], list[int] | None, [1, 2]),
        (512.5, int, 512.5),
        (1.0, float, 1.0),
        (1.0, int | float, 1.0),
        (1.0, bool, 1.0),
        (1.0, str | None, 1.0),
        (1.0, "int | None", 1.0),
        ([1.0], list[float], [1.0]),
        ("512", int, "512"),
        (None, int | None, None),
    ],
)
def test_whole_floats_become_ints_only_where_ints_are_asked_for(value: Any, hint: Any, becomes: Any) -> None:
    changed = arguments.integral({"name": value, "without_hint": 1.0}, {"name": hint})

    assert changed == {"name": becomes, "without_hint": 1.0}
    assert type(changed["name"]) is type(becomes)
    assert type(changed["without_hint"]) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"^temperature: {value} is not a finite number$"):
        arguments.refuse_not_finite({"top_p": 1.0, "temperature": value})


@pytest.mark.parametrize("token_ids", [[], [0], [511, 0, 7]])
def test_token_ids_of_the_vocabulary_pass(token_ids: list[int]) -> None:
    arguments.refuse_foreign_tokens("prompt", token_ids, 512)


@pytest.mark.parametrize(
    ("token_ids", "shown", "first"),
    [([-1], "-1", "-1"), ([3, 512], "512", "512"), ([600] * 9, ", ".join(["600"] * 8) + ", …", "600")],
)
def test_token_ids_outside_the_vocabulary_are_refused_by_name(token_ids: list[int], shown: str, first: str) -> None:
    text = f"^prompt: token ids outside the model's vocabulary of 512: {shown}$"
    with pytest.raises(InvalidRequest, match=text) as refused:
        arguments.refuse_foreign_tokens("prompt", token_ids, 512)

    assert refused.value.reason == "TOKEN_OUT_OF_VOCABULARY"
    assert refused.value.metadata == {"field": "prompt", "token_id": first, "vocab_size": "512"}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Expected `float`, got `str` - at `$.temperature`", "temperature: expected `float`, got `str`"),
        ("Expected `int`, got `str` - at `$.stop_token_ids[0]`", "stop_token_ids[0]: expected `int`, got `str`"),
        ("Expected `int`, got `str` - at `key` in `$.logit_bias`", "logit_bias: expected `int`, got `str`"),
        ("top_p must be in (0, 1], got 2.0.", "top_p must be in (0, 1], got 2.0."),
        ("", "ValueError, which says no more"),
    ],
)
def test_a_clients_error_names_the_parameter(said: str, shown: str) -> None:
    assert arguments.client_text(ValueError(said)) == shown


def test_what_vllm_quotes_of_a_request_is_left_out() -> None:
    class VLLMValidationError(ValueError):
        parameter = "input_text"

        def __str__(self) -> str:
            return f"{self.args[0]} (parameter=input_text, value=all of the prompt)"

    assert arguments.client_text(VLLMValidationError("too long")) == "too long"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (-9, "EngineCore was killed by SIGKILL"),
        (-63, "EngineCore was killed by signal 63"),
        (1, "EngineCore ended with exit code 1; the engine's log has the cause"),
    ],
)
def test_an_exit_code_is_put_into_words(code: int, shown: str) -> None:
    assert arguments.describe_exit("EngineCore", code) == shown
