"""From a client's sampling parameters to vLLM's; all that is wrong with them is told at once.

Each range is the one that every vLLM honours, or narrower where what is beyond it breaks the arithmetic: a repetition
penalty of 1e-300 is zero to an engine, and the logits that it divides become NaN. What depends on the model (its
vocabulary, its context, how many log probabilities it gives) its engine checks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from vllmd.api.parse_structured import structured_outputs
from vllmd.errors import InvalidRequest
from vllmd.v1.engine_service_pb2 import GenerateBatchRequest, GenerateRequest
from vllmd.v1.generation_pb2 import SamplingParams

Violation = tuple[str, str]
"""A field, and what it should be."""

MOST_COMPLETIONS = 64
_MOST_STRINGS = {"stop": 64, "bad_words": 1000}
_MOST_CHARACTERS = 1024
"""Of a stop string or a bad word; vLLM holds back as many characters as the longest stop string has."""
_MOST_TOKEN_IDS = {"stop_token_ids": 1024, "allowed_token_ids": 1 << 20}
_MOST_BIASES = 1024
_MOST_OF_A_BATCH = 1 << 24
"""Tokens that are named with each prompt; a second or so of the link's time."""
_MOST_SALT = 256
_INT32 = (1 << 31) - 1
_INT64 = (1 << 63) - 1
_GREEDY = 1e-5
"""Below this temperature vLLM is greedy."""

_INTEGERS = {
    "max_tokens": (1, _INT32),
    "min_tokens": (0, _INT32),
    "top_k": (-1, _INT32),
    "n": (1, MOST_COMPLETIONS),
    "logprobs": (0, _INT32),
    "prompt_logprobs": (0, _INT32),
}
_FLOATS = {
    "temperature": (0.0, 2.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.01, 100.0),
}
_FLAGS = ("skip_special_tokens", "include_stop_str_in_output", "spaces_between_special_tokens")


def sampling_params(params: SamplingParams) -> dict[str, Any]:
    """Read the sampling parameters that the client set, by vLLM's names.

    Raises:
        InvalidRequest: some are outside of what makes sense, or contradict each other.
    """
    found = {
        name: getattr(params, name) for name in (*_INTEGERS, *_FLOATS, *_FLAGS, "top_p", "seed") if _given(params, name)
    }
    lists = ("stop", "stop_token_ids", "bad_words", "allowed_token_ids")
    found |= {name: list(values) for name in lists if (values := getattr(params, name))}
    if "allowed_token_ids" in found:
        found["allowed_token_ids"] = list(dict.fromkeys(found["allowed_token_ids"]))
    if params.ignore_eos:
        found["ignore_eos"] = True
    if params.logit_bias:
        found["logit_bias"] = dict(params.logit_bias)
    wrong = [*_out_of_range(found), *_wrong_lists(found)]
    wrong = wrong or [
        *_contradictions(found, params.HasField("structured_outputs"))
    ]  # of values that make sense each by itself
    if params.HasField("truncate_prompt_tokens") and params.truncate_prompt_tokens < 1:
        wrong.append(("truncate_prompt_tokens", f"at least 1, not {params.truncate_prompt_tokens}"))
    if wrong:
        text = "; ".join(f"{field}: {what}" for field, what in wrong[:4]) + ("; …" if len(wrong) > 4 else "")
        error = InvalidRequest(
            "INVALID_SAMPLING_PARAMS", f"{text}.", field=wrong[0][0], fields=",".join(field for field, _ in wrong)
        )
        raise error.naming(*((f"sampling_params.{field}", what) for field, what in wrong))
    if params.HasField("structured_outputs"):
        found["structured_outputs"] = structured_outputs(params.structured_outputs)
    return found


def check_batch(params: dict[str, Any], prompts: int) -> None:
    """Check that parameters may go with so many prompts, each of which brings them to the engine.

    Raises:
        InvalidRequest: they name too many tokens.
    """
    named = len(params.get("allowed_token_ids", ())) + len(params.get("logit_bias", ()))
    if named * prompts > _MOST_OF_A_BATCH:
        message = (
            f"allowed_token_ids and logit_bias name {named} tokens, for each of {prompts} prompts; at most "
            f"{_MOST_OF_A_BATCH} are possible in all: send fewer prompts at once."
        )
        numbers = {"count": prompts, "named_tokens": named, "limit": _MOST_OF_A_BATCH}
        raise InvalidRequest("TOO_MANY_PROMPTS", message, field="allowed_token_ids", **numbers)


def options(request: GenerateRequest | GenerateBatchRequest) -> dict[str, Any]:
    """Read what goes with the prompt beside its sampling parameters, as far as the client set it.

    Raises:
        InvalidRequest: the salt is too long.
    """
    if len(request.cache_salt) > _MOST_SALT:
        message = f"cache_salt has at most {_MOST_SALT} characters; it has {len(request.cache_salt)}."
        raise InvalidRequest("INVALID_FIELD", message, field="cache_salt").naming(("cache_salt", message))
    found: dict[str, Any] = {
        name: value for name in ("priority", "cache_salt", "lora") if (value := getattr(request, name))
    }
    if request.sampling_params.HasField("truncate_prompt_tokens"):
        found["truncate_prompt_tokens"] = request.sampling_params.truncate_prompt_tokens
    return found


def _given(params: SamplingParams, name: Any) -> bool:
    return params.HasField(name)


def _out_of_range(found: dict[str, Any]) -> Iterator[Violation]:
    for name, (least, most) in (_INTEGERS | _FLOATS).items():
        value = found.get(name)
        if value is not None and not least <= value <= most:  # NaN, too
            between = f"at least {least}" if most == _INT32 else f"{least:g} to {most:g}"
            yield name, f"{between}, not {value:g}" if isinstance(value, float) else f"{between}, not {value}"
    if not 0 < found.get("top_p", 1) <= 1:
        yield "top_p", f"over 0 to 1, not {found['top_p']:g}"
    if found.get("seed") == -1:
        yield "seed", "not -1, which is none at all to vLLM: leave it out"
    if found.get("seed", 0) > _INT64 - (found.get("n", 1) - 1):
        yield "seed", "with n, the seed of the last completion is n - 1 higher, which takes more than 64 bits"


def _wrong_lists(found: dict[str, Any]) -> Iterator[Violation]:
    for name, most in (_MOST_STRINGS | _MOST_TOKEN_IDS).items():
        values: Sequence[Any] = found.get(name, ())
        if len(values) > most:
            yield name, f"at most {most}, not {len(values)}"
    for name in _MOST_STRINGS:
        lengths = [len(text) for text in found.get(name, ())]
        if lengths and min(lengths) == 0:
            yield name, "an empty string is in it"
        if lengths and max(lengths) > _MOST_CHARACTERS:
            yield name, f"a string has at most {_MOST_CHARACTERS} characters; one has {max(lengths)}"
    for name in _MOST_TOKEN_IDS:
        if (lowest := min(found.get(name, (0,)))) < 0:
            yield name, f"a token id is at least 0, not {lowest}"
    biases = found.get("logit_bias", {})
    if len(biases) > _MOST_BIASES:
        yield "logit_bias", f"at most {_MOST_BIASES} tokens, not {len(biases)}"
    if (lowest := min(biases, default=0)) < 0:
        yield "logit_bias", f"a token id is at least 0, not {lowest}"
    for token, bias in biases.items():
        if not -100 <= bias <= 100:
            yield "logit_bias", f"-100 to 100, not {bias:g} for token {token}"
            return


def _contradictions(found: dict[str, Any], structured: bool) -> Iterator[Violation]:
    least, most = found.get("min_tokens", 0), found.get("max_tokens", math.inf)
    if least > most:
        yield "min_tokens", f"at most max_tokens, which is {most}, not {least}"
    elif least == most and found.keys() & {"stop", "stop_token_ids"}:
        yield (
            "min_tokens",
            f"as high as max_tokens, which is {most}, so that nothing in stop or stop_token_ids could count",
        )
    if least and found.get("allowed_token_ids") and {*found["allowed_token_ids"]} <= {*found.get("stop_token_ids", ())}:
        yield "min_tokens", "all of allowed_token_ids are in stop_token_ids, none of which counts before min_tokens"
    if found.get("ignore_eos") and structured:
        yield "ignore_eos", "false with structured_outputs, behind whose end the text would go on"
    if found.get("n", 1) > 1 and found.get("temperature", 1.0) < _GREEDY:
        yield "n", f"1 with temperature 0, with which all completions are the same, not {found['n']}"
