from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from vllmd.client.requests import duration, engine_name, generate_request, lease_name, load_request
from vllmd.v1 import engine_pb2
from vllmd.v1.generation_pb2 import ChatMessage


def test_names_are_completed() -> None:
    """A name may be given with or without its collection."""
    assert engine_name("a-1") == engine_name("engines/a-1") == "engines/a-1"
    assert lease_name("5d41") == lease_name("leases/5d41") == "leases/5d41"


def test_load_request_says_what_was_wished() -> None:
    """Engine arguments keep their types, and auto-config is on unless it is switched off."""
    request = load_request("m", engine_args={"max_model_len": 8192, "a": None, "b": [1, "x"]}, lease_ttl=90)

    assert MessageToDict(request, preserving_proto_field_name=True) == {
        "model": "m",
        "engine_args": {"max_model_len": 8192.0, "a": None, "b": [1.0, "x"]},
        "lease_ttl": "90s",
    }
    assert load_request("m", auto_config=False).disable_auto_config


def test_engine_arguments_may_be_spelt_as_options() -> None:
    """vLLM's command line and its Python spell one name in two ways; both reach the daemon as Python's."""
    request = load_request("m", engine_args={"max-model-len": 8192, "--enforce-eager": True, "dtype": "a-b"})

    assert dict(request.engine_args) == {"max_model_len": 8192, "enforce_eager": True, "dtype": "a-b"}


def test_engine_argument_in_two_spellings_is_refused() -> None:
    """Which one was meant is not for us to choose."""
    with pytest.raises(TypeError, match="max_model_len is given twice"):
        load_request("m", engine_args={"max-model-len": 1, "max_model_len": 2})


@pytest.mark.parametrize("name", ["production", "Production", "throughput"])
def test_load_request_says_what_the_model_is_for(name: str) -> None:
    """By name, and by nothing if it is for nothing in particular."""
    assert load_request("m", use_case=name).use_case == engine_pb2.UseCase.Value(f"USE_CASE_{name.upper()}")
    assert load_request("m").use_case == engine_pb2.USE_CASE_UNSPECIFIED


def test_use_case_of_no_such_name_is_refused() -> None:
    """Before anything is sent, with the names there are."""
    with pytest.raises(ValueError, match="no use case 'chatting': it can be production, download, debate"):
        load_request("m", use_case="chatting")


def test_duration_from_seconds_or_timedelta() -> None:
    """Seconds and timedelta mean the same; nothing stays unset."""
    assert duration(1.5) == duration(timedelta(seconds=1.5))
    assert duration(None) is None


@pytest.mark.parametrize(
    ("prompt", "field", "expected"),
    [
        ("hi", "text", "hi"),
        ("", "text", ""),
        ([1, 2], "tokens", {"token_ids": [1, 2]}),
        ((), "tokens", {}),
        ([{"role": "user", "content": "hi"}], "chat", {"messages": [{"role": "user", "content": "hi"}]}),
        ([ChatMessage(role="user", content="hi")], "chat", {"messages": [{"role": "user", "content": "hi"}]}),
    ],
)
def test_prompt_of_each_kind(prompt: Any, field: str, expected: Any) -> None:
    """Text, token ids and messages each go where the proto has them."""
    request = generate_request("e", prompt, {})

    assert request.WhichOneof("prompt") == field
    assert MessageToDict(request, preserving_proto_field_name=True)[field] == expected


@pytest.mark.parametrize("prompt", [[1, {"role": "user", "content": "x"}], [{"role": "user", "content": "x"}, 1]])
def test_mixed_prompt_is_refused(prompt: Any) -> None:
    """A prompt is of one kind."""
    with pytest.raises(TypeError, match="not a mixture"):
        generate_request("e", prompt, {})


def test_source_is_a_lease_or_an_engine() -> None:
    """A lease is known by its prefix; everything else is an engine."""
    assert generate_request("leases/5d41", "x", {}).lease == "leases/5d41"
    assert generate_request("a-1", "x", {}).engine == "engines/a-1"


def test_unset_sampling_stays_unset() -> None:
    """Only what was given is sent, zero included, so that the model's own defaults hold for the rest."""
    params = generate_request("e", "x", {"temperature": 0.0, "stop": "END"}).sampling_params

    assert params.HasField("temperature")
    assert not params.HasField("top_p")
    assert list(params.stop) == ["END"]


def test_unknown_sampling_parameter_is_refused() -> None:
    """A misspelled parameter is an error here, not a default there."""
    options: Any = {"max_token": 3}

    with pytest.raises(TypeError, match="max_token"):
        generate_request("e", "x", options)


def test_template_args_need_a_conversation() -> None:
    """Variables for a chat template make no sense with plain text."""
    with pytest.raises(TypeError, match="conversation"):
        generate_request("e", "x", {}, {"enable_thinking": False})
