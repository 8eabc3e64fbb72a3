from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import MessageToDict

from vllmd.client.sampling import SamplingOptions, StructuredOutputs, sampling_params
from vllmd.v1 import generation_pb2

EVERYTHING: SamplingOptions = {
    "max_tokens": 8,
    "min_tokens": 1,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.5,
    "presence_penalty": 1.0,
    "frequency_penalty": -1.0,
    "repetition_penalty": 1.5,
    "seed": 7,
    "stop": ["END"],
    "stop_token_ids": [2],
    "ignore_eos": True,
    "skip_special_tokens": False,
    "n": 2,
    "logprobs": 0,
    "prompt_logprobs": 1,
    "bad_words": ["darn"],
    "logit_bias": {5: -100.0},
    "allowed_token_ids": [5, 6],
    "structured_outputs": {"json_object": True},
    "include_stop_str_in_output": True,
    "spaces_between_special_tokens": False,
    "truncate_prompt_tokens": 100,
}


def names(message: Descriptor) -> set[str]:
    """The fields of a message."""
    return {field.name for field in message.fields}


def test_every_field_has_its_option() -> None:
    """What the proto can say, Python can, under the same names."""
    params = sampling_params(EVERYTHING)

    assert {field.name for field, _ in params.ListFields()} == EVERYTHING.keys()
    assert get_type_hints(SamplingOptions).keys() == names(generation_pb2.SamplingParams.DESCRIPTOR)
    assert get_type_hints(StructuredOutputs).keys() == names(generation_pb2.StructuredOutputs.DESCRIPTOR)


def test_unset_stays_unset() -> None:
    """Only what was given is sent, zero included, so that the model's own defaults hold for the rest."""
    params = sampling_params({"temperature": 0.0, "stop": "END", "top_p": None})

    assert params.HasField("temperature")
    assert not params.HasField("top_p")
    assert list(params.stop) == ["END"]


def test_unknown_parameter_is_refused() -> None:
    """A misspelled parameter is an error here, not a default there."""
    with pytest.raises(TypeError, match="max_token"):
        sampling_params({"max_token": 3})


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"json": {"type": "object"}}, {"json": json.dumps({"type": "object"})}),
        ({"json": '{"type": "object"}'}, {"json": '{"type": "object"}'}),
        ({"json_object": True, "disable_any_whitespace": True}, {"json_object": True, "disable_any_whitespace": True}),
        ({"regex": "a+", "grammar": None}, {"regex": "a+"}),
        ({"choice": ["yes", "no"]}, {"choice": {"texts": ["yes", "no"]}}),
        ({"grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
        ({"structural_tag": {"type": "x"}}, {"structural_tag": json.dumps({"type": "x"})}),
        (generation_pb2.StructuredOutputs(regex="a"), {"regex": "a"}),
    ],
)
def test_structured_outputs_of_each_kind(wish: Any, expected: Any) -> None:
    """A schema may be a mapping or its JSON."""
    params = sampling_params({"structured_outputs": wish})

    assert MessageToDict(params.structured_outputs, preserving_proto_field_name=True) == expected


@pytest.mark.parametrize("wish", [{}, {"disable_any_whitespace": True}, {"regex": "a", "json": {}}])
def test_text_is_like_one_thing(wish: Any) -> None:
    """Of several, protobuf would silently take the last."""
    with pytest.raises(ValueError, match="exactly one of json, json_object, regex, choice"):
        sampling_params({"structured_outputs": wish})


def test_unknown_kind_of_output_is_refused() -> None:
    """By name."""
    with pytest.raises(TypeError, match="structured_outputs has no backend"):
        sampling_params({"structured_outputs": {"regex": "a", "backend": "x"}})


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"choice": "yes"}, "choice: texts takes a list, each text, not 'yes'"),
        (
            {"json": {"type": object()}},
            r"json can't be \{'type': <.*>\}: Object of type object is not JSON serializable",
        ),
        ({"regex": 5}, "regex takes text, not 5"),
        ({"json_object": "x"}, "json_object takes True or False, not 'x'"),
    ],
)
def test_output_of_another_type_is_named(wish: Any, said: str) -> None:
    """One text is not taken for the choice of its letters."""
    with pytest.raises(TypeError, match=said):
        sampling_params({"structured_outputs": wish})
