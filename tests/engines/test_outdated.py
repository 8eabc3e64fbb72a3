from __future__ import annotations

from typing import Any

import pytest

from vllmd.engines import outdated
from vllmd.errors import NotPossible
from vllmd.worker.protocol import ChatPrompt, Prompt, TextPrompt

HI = TextPrompt("hi")


@pytest.mark.parametrize(
    ("prompt", "params", "options", "named"),
    [
        (HI, {"n": 2}, {}, "n"),
        (HI, {"logprobs": 0}, {}, "logprobs"),
        (HI, {"structured_outputs": {"regex": "a"}}, {"priority": 1}, "structured_outputs, priority"),
        (
            HI,
            {},
            {"cache_salt": "x", "truncate_prompt_tokens": 5, "whole": True},
            "cache_salt, truncate_prompt_tokens",
        ),
        (ChatPrompt([], {}, continue_final_message=True), {}, {}, "continue_final_message"),
        (ChatPrompt([], {}, tools=[{}]), {}, {}, "tools"),
    ],
)
def test_what_an_earlier_worker_would_ignore_is_refused(
    prompt: Prompt, params: dict[str, Any], options: dict[str, Any], named: str
) -> None:
    """With the names, and what helps."""
    with pytest.raises(NotPossible, match="release it and load it again") as refused:
        outdated.refuse(prompt, params, options)

    assert refused.value.reason == "ENGINE_OUTDATED"
    assert refused.value.metadata["what"] == named


def test_what_it_always_knew_passes() -> None:
    """An engine that was taken over goes on to serve."""
    params = {"n": 1, "temperature": 0.5, "stop": ["x"], "bad_words": ["y"]}
    outdated.refuse(HI, params, {"priority": 0, "cache_salt": "", "truncate_prompt_tokens": None, "whole": False})
    outdated.refuse(ChatPrompt([], {}), params, {})
