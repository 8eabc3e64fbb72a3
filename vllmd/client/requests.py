"""From Python values to request messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.engine_pb2 import UseCase

Seconds = float | timedelta
Message = Mapping[str, str] | generation_pb2.ChatMessage
Prompt = str | Sequence[int] | Sequence[Message]


class SamplingOptions(TypedDict, total=False):
    """The fields of `SamplingParams`, which say what they mean."""

    max_tokens: int
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    seed: int
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    skip_special_tokens: bool


def engine_name(name: str) -> str:
    """Complete an engine's name: `qwen3-8b-3f2a` is `engines/qwen3-8b-3f2a`."""
    return name if name.startswith("engines/") else f"engines/{name}"


def lease_name(name: str) -> str:
    """Complete a lease's name: `5d41…` is `leases/5d41…`."""
    return name if name.startswith("leases/") else f"leases/{name}"


def argument_name(name: str) -> str:
    """Spell an argument as vLLM's Python does: its command line writes `--max-model-len` for `max_model_len`."""
    return name.removeprefix("--").replace("-", "_")


def load_request(
    model: str,
    *,
    revision: str = "",
    engine_args: Mapping[str, Any] | None = None,
    auto_config: bool = True,
    lease_ttl: Seconds | None = None,
    hold: bool = False,
    use_case: str = "",
) -> pb.LoadModelRequest:
    """Ask for a model.

    Raises:
        ValueError: there is no use case of that name.
    """
    return pb.LoadModelRequest(
        model=model,
        revision=revision,
        engine_args=_struct(_by_argument_name(engine_args or {})),
        disable_auto_config=not auto_config,
        lease_ttl=duration(lease_ttl),
        hold=hold,
        use_case=_use_case(use_case),
    )


def _use_case(name: str) -> UseCase.ValueType:
    values = {value.name.removeprefix("USE_CASE_").lower(): value.number for value in UseCase.DESCRIPTOR.values}
    nothing = values.pop("unspecified")
    if name and name.lower() not in values:
        raise ValueError(f"there is no use case {name!r}: it can be {', '.join(values)}")
    return UseCase.ValueType(values[name.lower()] if name else nothing)


def generate_request(
    source: str,
    prompt: Prompt,
    options: SamplingOptions,
    template_args: Mapping[str, Any] | None = None,
) -> pb.GenerateRequest:
    """Ask for tokens; *source* is a lease if it begins with `leases/`, else an engine."""
    request = pb.GenerateRequest(sampling_params=_sampling_params(options))
    if source.startswith("leases/"):
        request.lease = source
    else:
        request.engine = engine_name(source)
    _set_prompt(request, prompt, template_args)
    return request


def duration(value: Seconds | None) -> Duration | None:
    """Seconds as the protos have them."""
    if value is None:
        return None
    result = Duration()
    result.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    return result


def _set_prompt(request: pb.GenerateRequest, prompt: Prompt, template_args: Mapping[str, Any] | None) -> None:
    if isinstance(prompt, str):
        request.text = prompt
    elif prompt and not isinstance(prompt[0], int):
        messages = [_chat_message(message) for message in prompt]
        request.chat.CopyFrom(generation_pb2.ChatPrompt(messages=messages, template_args=_struct(template_args)))
    else:
        request.tokens.CopyFrom(generation_pb2.TokenPrompt(token_ids=[_token_id(token) for token in prompt]))
    if template_args and not request.HasField("chat"):
        raise TypeError("template_args are for a conversation, and this prompt is none")


def _chat_message(message: Message | int) -> generation_pb2.ChatMessage:
    if isinstance(message, generation_pb2.ChatMessage):
        return message
    if isinstance(message, int):
        raise TypeError("a prompt is text, token ids or messages, not a mixture")
    return generation_pb2.ChatMessage(role=message["role"], content=message["content"])


def _token_id(token: Message | int) -> int:
    if not isinstance(token, int):
        raise TypeError("a prompt is text, token ids or messages, not a mixture")
    return token


def _sampling_params(options: SamplingOptions) -> generation_pb2.SamplingParams:
    fields: dict[str, Any] = dict(options)
    if isinstance(fields.get("stop"), str):
        fields["stop"] = [fields["stop"]]
    unknown = fields.keys() - SamplingOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown sampling parameter {', '.join(sorted(unknown))}")
    return generation_pb2.SamplingParams(**fields)


def _by_argument_name(values: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for spelling, value in values.items():
        name = argument_name(spelling)
        if name in named:
            raise TypeError(f"{name} is given twice, in two spellings")
        named[name] = value
    return named


def _struct(values: Mapping[str, Any] | None) -> Struct | None:
    if not values:
        return None
    struct = Struct()
    struct.update(dict(values))
    return struct
