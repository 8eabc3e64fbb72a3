"""How tokens are chosen, from Python values to the protos. Pure."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, get_type_hints

from vllmd.client.values import made
from vllmd.v1 import generation_pb2


class StructuredOutputs(TypedDict, total=False):
    """What the text has to be like: exactly one of these, and `disable_any_whitespace` where it is JSON."""

    json: str | Mapping[str, Any] | bool
    """A JSON schema, as a mapping or as text."""
    json_object: bool
    """Any JSON object."""
    regex: str
    """A regular expression that the whole text matches."""
    choice: Sequence[str]
    """The texts of which it is one."""
    grammar: str
    """A grammar in EBNF, as xgrammar or Lark write it."""
    structural_tag: str | Mapping[str, Any]
    """Structure between tags of the model's own, in vLLM's form."""
    disable_any_whitespace: bool
    """Leave whitespace out of JSON where it means nothing."""


class SamplingOptions(TypedDict, total=False):
    """The fields of `SamplingParams`; what is left out is the model's default, then vLLM's."""

    max_tokens: int
    """Most tokens to generate. Default: as many as fit into the context."""
    min_tokens: int
    """Fewest tokens to generate before an end token or a stop string counts."""
    temperature: float
    """Randomness, 0 or more; 0 always takes the likeliest token."""
    top_p: float
    """Sample the smallest set of tokens whose probabilities add up to this, over 0 to 1."""
    top_k: int
    """How many of the likeliest tokens are sampled; 0 means all."""
    min_p: float
    """Least probability relative to the likeliest token, 0 to 1."""
    presence_penalty: float
    """Penalty on tokens that have appeared at all, -2 to 2."""
    frequency_penalty: float
    """Penalty on tokens by how often they have appeared, -2 to 2."""
    repetition_penalty: float
    """Factor against repetition, over 0; 1 is none."""
    seed: int
    """Of this request's random numbers."""
    stop: str | Sequence[str]
    """Strings that end the generation, and are no part of the text."""
    stop_token_ids: Sequence[int]
    """Tokens that end the generation."""
    ignore_eos: bool
    """Go on after the model's end token."""
    skip_special_tokens: bool
    """Leave special tokens out of the text. Default true."""
    n: int
    """How many completions to make, each with an `index` of its own, 1 to 64."""
    logprobs: int
    """How many of the likeliest tokens come with their log probabilities; 0 for the chosen one alone."""
    prompt_logprobs: int
    """Likewise, for each token of the prompt."""
    bad_words: Sequence[str]
    """Words that are not generated."""
    logit_bias: Mapping[int, float]
    """What is added to the logits of tokens, by token id, -100 to 100."""
    allowed_token_ids: Sequence[int]
    """The only tokens that are generated. Default: all."""
    structured_outputs: StructuredOutputs | generation_pb2.StructuredOutputs
    """What the text has to be like, such as `{"json": schema}` or `{"choice": ["yes", "no"]}`."""
    include_stop_str_in_output: bool
    """Leave the stop string in the text."""
    spaces_between_special_tokens: bool
    """Put spaces between special tokens, where these stay in the text. Default true."""
    truncate_prompt_tokens: int
    """Keep no more than so many tokens of a prompt, the last ones. Default: one that is too long is refused."""


_NAMES = frozenset(get_type_hints(SamplingOptions))
_CONSTRAINTS = tuple(
    field.name for field in generation_pb2.StructuredOutputs.DESCRIPTOR.oneofs_by_name["constraint"].fields
)


def sampling_params(options: Mapping[str, Any]) -> generation_pb2.SamplingParams:
    """Make a message of `SamplingOptions`; one that is `None` is left out.

    Raises:
        TypeError: there is no such parameter, or it is of another type.
        ValueError: it is too great by far, or what is asked of the text is nothing, or several things.
    """
    if unknown := options.keys() - _NAMES:
        raise TypeError(f"unknown sampling parameter {', '.join(sorted(unknown))}")
    fields = dict(options)
    if isinstance(fields.get("stop"), str):
        fields["stop"] = [fields["stop"]]
    if isinstance(constraint := fields.get("structured_outputs"), Mapping):
        fields["structured_outputs"] = _structured_outputs(constraint)
    return made(generation_pb2.SamplingParams, **fields)


def _structured_outputs(wish: Mapping[str, Any]) -> generation_pb2.StructuredOutputs:
    fields = {name: value for name, value in wish.items() if value is not None}
    # Of a oneof protobuf silently takes the last.
    if len(fields.keys() & set(_CONSTRAINTS)) != 1:
        raise ValueError(f"structured_outputs takes exactly one of {', '.join(_CONSTRAINTS)}")
    if unknown := fields.keys() - {*_CONSTRAINTS, "disable_any_whitespace"}:
        raise TypeError(f"structured_outputs has no {', '.join(sorted(unknown))}")
    for name in ("json", "structural_tag"):
        if name in fields and not isinstance(fields[name], str):
            fields[name] = _json(name, fields[name])
    if "choice" in fields:
        fields["choice"] = _choice(fields["choice"])
    return made(generation_pb2.StructuredOutputs, **fields)


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} can't be {reprlib.repr(value)}: {error}") from None


def _choice(texts: Any) -> generation_pb2.Choice:
    try:
        return made(generation_pb2.Choice, texts=texts)
    except TypeError as error:
        raise TypeError(f"choice: {error}") from None
