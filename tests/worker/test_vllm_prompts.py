"""Texts, on a renderer that makes a token of each character; tokens and chats on real vLLM: `test_vllm_backend`."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import pytest

from vllmd.worker.backend import InvalidRequest
from vllmd.worker.protocol import Generate, TextPrompt
from vllmd.worker.vllm_prompts import render

LONGEST = 4


@dataclasses.dataclass(frozen=True)
class Limits:
    max_total_tokens: int | None = 10


class Renderer:
    """vLLM's, as far as a text needs it."""

    default_cmpl_tok_params = Limits()

    def __init__(self, longest: int | None = LONGEST) -> None:
        self.asked: list[int] = []
        """How long the texts were."""
        self._tokenizer = types.SimpleNamespace(max_chars_per_token=longest) if longest else object()

    def get_tokenizer(self) -> Any:
        return self._tokenizer

    async def render_cmpl_async(self, prompts: list[dict[str, str]], limits: Limits) -> list[dict[str, Any]]:
        assert limits.max_total_tokens is None
        self.asked += [len(prompt["prompt"]) for prompt in prompts]
        return [{"type": "token", "prompt_token_ids": list(map(ord, prompt["prompt"]))} for prompt in prompts]


async def rendered(text: str, renderer: Renderer | None = None, **options: Any) -> dict[str, Any]:
    """Render a text for an engine of ten tokens and 128 characters."""
    request = Generate(1, TextPrompt(text), {}, **options)
    result: dict[str, Any] = await render(renderer or Renderer(), request, max_model_len=10, vocab_size=128)
    return result


async def test_a_text_becomes_tokens_with_its_salt() -> None:
    """And nothing else is added."""
    assert await rendered("ab") == {"type": "token", "prompt_token_ids": [97, 98]}
    assert (await rendered("ab", cache_salt="x"))["cache_salt"] == "x"


async def test_truncation_keeps_the_last_tokens() -> None:
    """Of however long a text, of which no more is tokenized than can fit."""
    renderer = Renderer()

    assert (await rendered("abcdefghijkl", truncate_prompt_tokens=3))["prompt_token_ids"] == list(map(ord, "jkl"))
    assert (await rendered("ab", truncate_prompt_tokens=3))["prompt_token_ids"] == [97, 98]
    assert (await rendered("x" * 1000 + "y", renderer, truncate_prompt_tokens=1))["prompt_token_ids"] == [ord("y")]
    assert renderer.asked == [10 * LONGEST]


@pytest.mark.parametrize(
    ("text", "options", "reason", "metadata"),
    [
        ("a" * 10, {}, "PROMPT_TOO_LONG", {"prompt_tokens": "10", "max_model_len": "10"}),
        ("a" * 12, {"truncate_prompt_tokens": 11}, "PROMPT_TOO_LONG", {"prompt_tokens": "11", "max_model_len": "10"}),
        ("a" * 1001, {}, "PROMPT_TOO_LONG", {"prompt_tokens": "251", "max_model_len": "10"}),
        ("", {}, "INVALID_FIELD", {"field": "prompt"}),
        ("é", {}, "TOKEN_OUT_OF_VOCABULARY", {"field": "prompt", "token_id": "233", "vocab_size": "128"}),
    ],
)
async def test_what_the_engine_can_not_take_is_refused_with_numbers(
    text: str, options: dict[str, Any], reason: str, metadata: dict[str, str]
) -> None:
    """A text that is too long by far is not counted, but its least length known."""
    with pytest.raises(InvalidRequest) as refused:
        await rendered(text, **options)

    assert (refused.value.reason, refused.value.metadata) == (reason, metadata)


async def test_a_tokenizer_that_knows_no_longest_token_counts() -> None:
    """As older vLLM's do."""
    with pytest.raises(InvalidRequest, match="the prompt has 1000 tokens"):
        await rendered("a" * 1000, Renderer(longest=None))
