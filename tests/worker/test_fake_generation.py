from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from vllmd.worker.backend import Impossible, InvalidRequest, Output
from vllmd.worker.fake_generation import FakeModel, generate
from vllmd.worker.protocol import Generate, TextPrompt

MODEL = FakeModel(max_model_len=100, scheduling_policy="fcfs", tokens_until_eos=0)


async def outputs(
    params: dict[str, Any], model: FakeModel = MODEL, prompt_tokens: int = 3, **more: Any
) -> list[Output]:
    """All of a generation."""
    request = Generate(1, TextPrompt("a b c"), params, **more)
    return [o async for o in generate(request, model, prompt_tokens, lambda: asyncio.sleep(0))]


async def test_completions_advance_together_and_the_last_end_is_the_last() -> None:
    """As vLLM's do in its steps."""
    found = await outputs({"n": 2, "max_tokens": 2})

    assert [(o.index, o.text, o.finish_reason, o.last) for o in found] == [
        (0, "w0 ", None, True),
        (1, "w100 ", None, True),
        (0, "w1 ", "length", False),
        (1, "w101 ", "length", True),
    ]


async def test_whole_completions_come_at_their_end() -> None:
    """Each in one output, with all that it would have had."""
    found = await outputs({"n": 2, "max_tokens": 3, "logprobs": 0, "prompt_logprobs": 0}, whole=True)

    assert [(o.text, o.token_ids, o.finish_reason, o.last) for o in found] == [
        ("w0 w1 w2 ", [0, 1, 2], "length", False),
        ("w100 w101 w102 ", [100, 101, 102], "length", True),
    ]
    assert [len(o.logprobs or ()) for o in found] == [3, 3]
    assert [len(o.prompt_logprobs or ()) for o in found] == [3, 0]


async def test_log_probabilities_begin_with_the_token() -> None:
    """And add up to something plausible; the first token of the prompt has none."""
    first, second = await outputs({"max_tokens": 2, "logprobs": 2, "prompt_logprobs": 1})

    assert first.logprobs is not None
    assert [(c.token_id, c.rank, c.text) for c in first.logprobs[0]] == [(0, 1, "w0 "), (1, 2, "?")]
    assert first.logprobs[0][0].logprob == pytest.approx(math.log(0.5))
    assert [len(place) for place in first.prompt_logprobs or ()] == [0, 1, 1]
    assert second.prompt_logprobs is None


@pytest.mark.parametrize(
    ("params", "text", "finish", "stop"),
    [
        ({"stop": ["2"], "max_tokens": 9}, "w0 w1 w", "stop", "2"),
        ({"stop": ["2"], "include_stop_str_in_output": True}, "w0 w1 w2 ", "stop", "2"),
        ({"stop_token_ids": [1]}, "w0 w1 ", "stop", 1),
        ({"stop_token_ids": [1], "min_tokens": 2, "max_tokens": 3}, "w0 w1 w2 ", "length", None),
        ({"structured_outputs": {"choice": ["abcdef"]}}, "abcdef", "stop", None),
    ],
)
async def test_generations_end_as_vllms_do(
    params: dict[str, Any], text: str, finish: str, stop: str | int | None
) -> None:
    """By a string, a token, the end of a structure, or the limit."""
    found = await outputs(params)

    assert "".join(o.text for o in found) == text
    assert (found[-1].finish_reason, found[-1].stop_reason) == (finish, stop)


async def test_the_end_token_comes_when_it_was_told_unless_ignored() -> None:
    """`ignore_eos` goes on."""
    model = FakeModel(max_model_len=100, scheduling_policy="fcfs", tokens_until_eos=2)

    assert (await outputs({}, model))[-1].finish_reason == "stop"
    assert len(await outputs({"ignore_eos": True, "max_tokens": 5}, model)) == 5


async def test_a_priority_needs_the_policy() -> None:
    """And is heeded there, as far as a fake can."""
    model = FakeModel(max_model_len=100, scheduling_policy="priority", tokens_until_eos=0)
    with pytest.raises(Impossible) as refused:
        await outputs({}, priority=1)

    assert refused.value.reason == "PRIORITY_UNSUPPORTED"
    assert len(await outputs({"max_tokens": 2}, model, priority=1)) == 2


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"logprobs": 21}, "INVALID_SAMPLING_PARAMS"),
        ({"max_tokens": 0}, "INVALID_SAMPLING_PARAMS"),
        ({"stop_token_ids": [1000]}, "TOKEN_OUT_OF_VOCABULARY"),
        ({"logit_bias": {1000: 1.0}}, "TOKEN_OUT_OF_VOCABULARY"),
        ({"allowed_token_ids": [1000]}, "TOKEN_OUT_OF_VOCABULARY"),
    ],
)
async def test_what_vllm_would_refuse_is_refused(params: dict[str, Any], reason: str) -> None:
    """With the same reasons."""
    with pytest.raises(InvalidRequest) as refused:
        await outputs(params)

    assert refused.value.reason == reason


async def test_a_prompt_that_is_too_long_is_refused_or_truncated() -> None:
    """There must be room for a token."""
    with pytest.raises(InvalidRequest) as refused:
        await outputs({}, prompt_tokens=100)
    truncated = await outputs({"max_tokens": 1}, prompt_tokens=100, truncate_prompt_tokens=7)

    assert refused.value.metadata == {"prompt_tokens": "100", "max_model_len": "100"}
    assert truncated[0].prompt_tokens == 7
