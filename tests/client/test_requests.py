from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, get_args

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from vllmd.client.requests import (
    GenerateOptions,
    ModelOptions,
    UseCaseName,
    batch_request,
    detokenize_request,
    embed_request,
    engine_name,
    generate_request,
    lease_name,
    load_request,
    plan_request,
    tokenize_request,
    watch_request,
)
from vllmd.v1 import engine_pb2


def as_dict(message: Message) -> dict[str, Any]:
    """What a message says."""
    result: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return result


def test_names_are_completed() -> None:
    """A name may be given with or without its collection."""
    assert engine_name("a-1") == engine_name("engines/a-1") == "engines/a-1"
    assert lease_name("5d41") == lease_name("leases/5d41") == "leases/5d41"


def test_load_request_says_what_was_wished() -> None:
    """Engine arguments keep their types, and auto-config is on unless it is switched off."""
    request = load_request("m", {"engine_args": {"max_model_len": 8192, "a": None, "b": [1, "x"]}}, lease_ttl=90)

    assert as_dict(request) == {
        "model": "m",
        "engine_args": {"max_model_len": 8192.0, "a": None, "b": [1.0, "x"]},
        "lease_ttl": "90s",
    }
    assert load_request("m", {"auto_config": False}).disable_auto_config


def test_engine_arguments_may_be_spelt_as_options() -> None:
    """vLLM's command line and its Python spell one name in two ways; both reach the daemon as Python's."""
    request = load_request("m", {"engine_args": {"max-model-len": 8192, "--enforce-eager": True, "dtype": "a-b"}})

    assert dict(request.engine_args) == {"max_model_len": 8192, "enforce_eager": True, "dtype": "a-b"}


def test_engine_argument_in_two_spellings_is_refused() -> None:
    """Which one was meant is not for us to choose."""
    with pytest.raises(TypeError, match="max_model_len is given twice"):
        load_request("m", {"engine_args": {"max-model-len": 1, "max_model_len": 2}})


@pytest.mark.parametrize("name", [*get_args(UseCaseName), "Production"])
def test_load_request_says_what_the_model_is_for(name: Any) -> None:
    """By name, and by nothing if it is for nothing in particular."""
    assert load_request("m", {"use_case": name}).use_case == engine_pb2.UseCase.Value(f"USE_CASE_{name.upper()}")
    assert load_request("m").use_case == load_request("m", {"use_case": None}).use_case
    assert load_request("m").use_case == engine_pb2.USE_CASE_UNSPECIFIED


def test_type_checkers_know_every_use_case() -> None:
    """Those of the API, and no other."""
    names = {f"USE_CASE_{name.upper()}" for name in get_args(UseCaseName)}

    assert names == set(engine_pb2.UseCase.keys()) - {"USE_CASE_UNSPECIFIED"}


def test_use_case_of_no_such_name_is_refused() -> None:
    """Before anything is sent, with the names there are."""
    wrong: Any = "chatting"
    with pytest.raises(ValueError, match="no use case 'chatting': it can be production, download, debate"):
        load_request("m", {"use_case": wrong})


def test_source_is_a_lease_or_an_engine() -> None:
    """A lease is known by its prefix; everything else is an engine."""
    assert generate_request("leases/5d41", "x").lease == "leases/5d41"
    assert generate_request("a-1", "x").engine == "engines/a-1"
    assert tokenize_request("a-1", "x").engine == "engines/a-1"
    assert detokenize_request("leases/5d41", [1]).lease == "leases/5d41"


@pytest.mark.parametrize(
    ("prompt", "kind"), [("hi", "text"), ([1, 2], "tokens"), ([{"role": "user", "content": "hi"}], "chat")]
)
def test_prompt_goes_where_generate_has_it(prompt: Any, kind: str) -> None:
    """It had its prompt before there was a message for one; the others have that."""
    request = generate_request("e", prompt)
    of_a_batch = batch_request("e", [prompt]).prompts[0]

    assert request.WhichOneof("prompt") == of_a_batch.WhichOneof("content") == kind
    assert getattr(request, kind) == getattr(of_a_batch, kind)


def test_what_is_said_of_a_prompt() -> None:
    """Each option goes where it belongs: to the sampling, to the conversation, to the request."""
    prompt = [{"role": "user", "content": "hi"}]
    options: GenerateOptions = {
        "max_tokens": 3,
        "priority": -1,
        "cache_salt": "mine",
        "lora": "sql",
        "template_args": {"a": True},
        "continue_final_message": True,
    }

    assert as_dict(generate_request("e", prompt, options)) == {
        "engine": "engines/e",
        "chat": {"messages": prompt, "template_args": {"a": True}, "continue_final_message": True},
        "sampling_params": {"max_tokens": 3},
        "priority": -1,
        "cache_salt": "mine",
        "lora": "sql",
    }


def test_unknown_options_are_refused() -> None:
    """A misspelled one is an error here, not a default there."""
    misspelled: Any = {"max_token": 3}
    for build in (generate_request, batch_request, embed_request):
        with pytest.raises((TypeError, ValueError), match="max_token"):
            build("e", [], misspelled)
    with pytest.raises(TypeError, match="max_token"):
        load_request("m", misspelled)


def test_batch_says_it_of_all() -> None:
    """Prompts may be of different kinds."""
    request = batch_request("leases/1", ["a", [1]], {"max_tokens": 3, "priority": 1, "lora": "sql"})

    assert as_dict(request) == {
        "lease": "leases/1",
        "prompts": [{"text": "a"}, {"tokens": {"token_ids": [1]}}],
        "sampling_params": {"max_tokens": 3},
        "priority": 1,
        "lora": "sql",
    }


@pytest.mark.parametrize("prompts", ["abc", [1, 2], 5])
def test_one_prompt_is_not_many(prompts: Any) -> None:
    """A text is not taken for its characters, nor token ids for prompts."""
    for build in (batch_request, embed_request):
        with pytest.raises(TypeError):
            build("e", prompts)


def test_embed_request_says_what_was_wished() -> None:
    """What is left out stays the model's own default; false is a wish."""
    request = embed_request("e", ["a"], {"dimensions": 8, "normalize": False})

    assert as_dict(request) == {
        "engine": "engines/e",
        "inputs": [{"text": "a"}],
        "dimensions": 8,
        "normalize": False,
    }
    assert not embed_request("e", ["a"]).HasField("normalize")


def test_tokenize_request_says_what_was_wished() -> None:
    """Of a conversation too."""
    request = tokenize_request(
        "e", [{"role": "user", "content": "hi"}], add_special_tokens=False, template_args={"a": 1}
    )

    assert request.HasField("add_special_tokens")
    assert request.prompt.chat.template_args["a"] == 1
    assert not tokenize_request("e", "x").HasField("add_special_tokens")


def test_plan_request_says_what_load_would() -> None:
    """Word for word."""
    options: ModelOptions = {
        "revision": "main",
        "engine_args": {"max_model_len": 8},
        "auto_config": False,
        "use_case": "production",
        "lora_adapters": {"sql": pathlib.Path("/adapters/sql"), "chat": "/adapters/chat"},
    }
    plan = as_dict(plan_request("m", options))

    assert plan == as_dict(load_request("m", options))
    assert plan["lora_adapters"] == [
        {"name": "sql", "path": "/adapters/sql"},
        {"name": "chat", "path": "/adapters/chat"},
    ]


def test_watch_request_says_which() -> None:
    """All, unless an engine is named."""
    assert as_dict(watch_request()) == {}
    assert as_dict(watch_request("a-1", 0.5)) == {"name": "engines/a-1", "min_interval": "0.500s"}


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda any_: load_request("m", {"engine_args": {"max_model_len": any_}}),
            "engine_args: 'max_model_len' can't be",
        ),
        (lambda any_: load_request("m", {"engine_args": any_}), "engine_args takes values by name"),
        (lambda any_: load_request("m", {"lora_adapters": any_}), "lora_adapters takes values by name"),
        (lambda any_: load_request("m", {"lora_adapters": {"a": any_}}), "lora_adapters takes directories by name"),
        (lambda any_: load_request("m", {"revision": any_}), "revision takes text"),
        (lambda any_: load_request(any_), "model takes text"),
        (lambda any_: plan_request(any_), "model takes text"),
        (lambda any_: generate_request("e", "x", {"max_tokens": any_}), "max_tokens takes a whole number"),
        (lambda any_: generate_request("e", "x", {"priority": any_}), "priority takes a whole number"),
        (lambda any_: batch_request("e", ["x"], {"cache_salt": any_}), "cache_salt takes text"),
        (lambda any_: embed_request("e", ["x"], {"dimensions": any_}), "dimensions takes a whole number"),
        (lambda any_: tokenize_request("e", "x", add_special_tokens=any_), "add_special_tokens takes True or False"),
        (lambda any_: tokenize_request("e", "x", tool=any_), "unknown option tool"),
        (lambda any_: detokenize_request("e", any_), "token_ids takes a list, each a whole number"),
    ],
)
def test_what_is_of_another_type_is_named(build: Callable[[Any], Message], said: str) -> None:
    """By the option, before anything is sent."""
    with pytest.raises(TypeError, match=f"^{said}"):
        build(object())


def test_name_is_not_what_has_one() -> None:
    """Who passes an engine or a lease is told to pass its name."""
    engine: Any = engine_pb2.Engine(name="engines/a-1")
    for build in (engine_name, lease_name, watch_request, lambda source: generate_request(source, "x")):
        with pytest.raises(TypeError, match="a name is text, such as the `name` of an engine or a lease, not Engine"):
            build(engine)
