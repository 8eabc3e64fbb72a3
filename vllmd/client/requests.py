"""From what is asked for in Python to request messages. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, cast, get_type_hints

from vllmd.client.prompts import ChatOptions, Prompt, to_prompt
from vllmd.client.sampling import SamplingOptions, sampling_params
from vllmd.client.values import Seconds, duration, made, mapping, struct
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import LoraAdapter, UseCase

_Request = TypeVar(
    "_Request", pb.GenerateRequest, pb.GenerateBatchRequest, pb.EmbedRequest, pb.TokenizeRequest, pb.DetokenizeRequest
)


UseCaseName = Literal["production", "download", "debate", "latency", "throughput"]
"""What a model is loaded for, by the names of the API's `UseCase`."""


class ModelOptions(TypedDict, total=False):
    """What is said of a model beside its name, for `load` and `plan`."""

    revision: str
    """A branch, tag or commit. Default: vLLM's, which is `main`."""
    engine_args: Mapping[str, Any] | None
    """vLLM's engine arguments by name, such as `{"max_model_len": 8192}`; honoured or refused, never changed."""
    auto_config: bool
    """Whether the daemon chooses the arguments that are left open. Default true."""
    use_case: UseCaseName | None
    """What they are chosen for. Default: nothing in particular."""
    lora_adapters: Mapping[str, str | os.PathLike[str]] | None
    """Directories of LoRA adapters on the daemon's host, by the name that `lora` will say."""


class SchedulingOptions(TypedDict, total=False):
    """How the engine treats a request."""

    priority: int
    """Lower ones are scheduled first, with an engine whose `scheduling_policy` is `priority`. Default 0."""
    lora: str
    """The LoRA adapter to use, by the name that `load` gave it. Default: the model alone."""


class BatchOptions(SamplingOptions, SchedulingOptions, total=False):
    """What is said of all prompts of a batch."""

    cache_salt: str
    """Only prompts of the same salt share what the prefix cache holds."""


class GenerateOptions(BatchOptions, ChatOptions, total=False):
    """What is said of one prompt."""


class EmbedOptions(SchedulingOptions, total=False):
    """How vectors are made."""

    dimensions: int | None
    """How many numbers each has, where the model lets one choose. Default: all that it makes."""
    normalize: bool | None
    """Scale each vector to length 1, or don't. Default: what the model's own configuration says."""
    truncate_prompt_tokens: int | None
    """Keep no more than so many tokens of an input, the first ones. Default: one that is too long is refused."""


def engine_name(name: str) -> str:
    """Complete an engine's name: `qwen3-8b-3f2a` is `engines/qwen3-8b-3f2a`."""
    return name if _text(name).startswith("engines/") else f"engines/{name}"


def lease_name(name: str) -> str:
    """Complete a lease's name: `5d41…` is `leases/5d41…`."""
    return name if _text(name).startswith("leases/") else f"leases/{name}"


def argument_name(name: str) -> str:
    """Spell an argument as vLLM's Python does: its command line writes `--max-model-len` for `max_model_len`."""
    return name.removeprefix("--").replace("-", "_")


def load_request(
    model: str, options: ModelOptions | None = None, *, lease_ttl: Seconds | None = None, hold: bool = False
) -> pb.LoadModelRequest:
    """Ask for a model.

    Raises:
        TypeError: there is no such option, or an engine argument is given twice.
        ValueError: there is no use case of that name.
    """
    fields = _model_fields(options or {})
    return made(pb.LoadModelRequest, model=model, lease_ttl=duration(lease_ttl), hold=hold, **fields)


def plan_request(model: str, options: ModelOptions | None = None) -> pb.PlanModelRequest:
    """Ask how a model would be loaded; raises as `load_request` does."""
    return made(pb.PlanModelRequest, model=model, **_model_fields(options or {}))


def generate_request(source: str, prompt: Prompt, options: GenerateOptions | None = None) -> pb.GenerateRequest:
    """Ask for tokens; *source* is a lease if it begins with `leases/`, else an engine."""
    rest: dict[str, Any] = dict(options or {})
    chat = _taken(rest, ChatOptions)
    request = _at(source, _batch_request(pb.GenerateRequest, rest))
    made = to_prompt(prompt, cast("ChatOptions", chat))
    # The oneof that Generate had before there was a message for it.
    match made.WhichOneof("content"):
        case "text":
            request.text = made.text
        case "tokens":
            request.tokens.CopyFrom(made.tokens)
        case "chat":
            request.chat.CopyFrom(made.chat)
    return request


def batch_request(
    source: str, prompts: Sequence[Prompt], options: BatchOptions | None = None
) -> pb.GenerateBatchRequest:
    """Ask for tokens for each of some prompts."""
    request = _at(source, _batch_request(pb.GenerateBatchRequest, dict(options or {})))
    request.prompts.extend(_each(prompts))
    return request


def embed_request(source: str, inputs: Sequence[Prompt], options: EmbedOptions | None = None) -> pb.EmbedRequest:
    """Ask for a vector of each of some inputs."""
    _refuse_unknown(options or {}, EmbedOptions)
    request = _at(source, made(pb.EmbedRequest, **(options or {})))
    request.inputs.extend(_each(inputs))
    return request


def tokenize_request(
    source: str,
    prompt: Prompt,
    *,
    add_special_tokens: bool | None = None,
    return_token_texts: bool = False,
    **chat: Any,
) -> pb.TokenizeRequest:
    """Ask for the tokens of a prompt."""
    _refuse_unknown(chat, ChatOptions)
    request = made(
        pb.TokenizeRequest,
        prompt=to_prompt(prompt, cast("ChatOptions", chat)),
        add_special_tokens=add_special_tokens,
        return_token_texts=return_token_texts,
    )
    return _at(source, request)


def detokenize_request(
    source: str, token_ids: Sequence[int], *, skip_special_tokens: bool = False
) -> pb.DetokenizeRequest:
    """Ask for the text of some tokens."""
    return _at(source, made(pb.DetokenizeRequest, token_ids=token_ids, skip_special_tokens=skip_special_tokens))


def watch_request(engine: str = "", min_interval: Seconds | None = None) -> pb.WatchEnginesRequest:
    """Ask for an engine, or all, as they change."""
    return pb.WatchEnginesRequest(name=engine_name(engine) if engine else "", min_interval=duration(min_interval))


def _text(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name is text, such as the `name` of an engine or a lease, not {type(name).__name__}")
    return name


def _at(source: str, request: _Request) -> _Request:
    if _text(source).startswith("leases/"):
        request.lease = source
    else:
        request.engine = engine_name(source)
    return request


_Batch = TypeVar("_Batch", pb.GenerateRequest, pb.GenerateBatchRequest)


def _batch_request(kind: type[_Batch], options: dict[str, Any]) -> _Batch:
    fields = {name: options.pop(name) for name in ("priority", "cache_salt", "lora") if name in options}
    return made(kind, sampling_params=sampling_params(options), **fields)


def _each(prompts: Sequence[Prompt]) -> list[Any]:
    if isinstance(prompts, str):
        raise TypeError("this takes a list of prompts, not one")
    return [to_prompt(prompt) for prompt in prompts]


def _taken(options: dict[str, Any], kind: type) -> dict[str, Any]:
    return {name: options.pop(name) for name in get_type_hints(kind) if name in options}


def _model_fields(options: ModelOptions) -> dict[str, Any]:
    _refuse_unknown(options, ModelOptions)
    arguments = _by_argument_name(options.get("engine_args") or {})
    adapters = mapping(options.get("lora_adapters") or {}, "lora_adapters").items()
    return {
        "revision": options.get("revision", ""),
        "engine_args": struct(arguments, "engine_args") if arguments else None,
        "disable_auto_config": not options.get("auto_config", True),
        "use_case": _use_case(options.get("use_case") or ""),
        "lora_adapters": [LoraAdapter(name=name, path=_path(path)) for name, path in adapters],
    }


def _refuse_unknown(options: Mapping[str, Any], kind: type) -> None:
    if unknown := options.keys() - get_type_hints(kind).keys():
        raise TypeError(f"unknown option {', '.join(sorted(unknown))}")


def _path(path: str | os.PathLike[str]) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"lora_adapters takes directories by name, not {path!r}")
    return os.fspath(path)


def _use_case(name: str) -> UseCase.ValueType:
    values = {value.name.removeprefix("USE_CASE_").lower(): value.number for value in UseCase.DESCRIPTOR.values}
    nothing = values.pop("unspecified")
    if name and name.lower() not in values:
        raise ValueError(f"there is no use case {name!r}: it can be {', '.join(values)}")
    return UseCase.ValueType(values[name.lower()] if name else nothing)


def _by_argument_name(values: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for spelling, value in mapping(values, "engine_args").items():
        name = argument_name(spelling)
        if name in named:
            raise TypeError(f"{name} is given twice, in two spellings")
        named[name] = value
    return named
