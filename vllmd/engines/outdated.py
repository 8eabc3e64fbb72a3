"""What an engine can't do whose worker an earlier vllmd started: it would be ignored there, so it is refused here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from vllmd.errors import NotPossible
from vllmd.worker.protocol import ChatPrompt, Prompt

CURRENT = 3
"""The first protocol of which nothing has to be refused."""

_SINCE_3 = ("n", "logprobs", "prompt_logprobs", "structured_outputs")
"""Sampling parameters that earlier workers do not pass on, or whose results they do not bring back."""


class GenerateOptions(TypedDict, total=False):
    """What a generation has beside its prompt and its sampling parameters; see `protocol.Generate`."""

    priority: int
    cache_salt: str
    lora: str
    truncate_prompt_tokens: int | None
    whole: bool


def refuse(prompt: Prompt, sampling_params: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse what a worker of protocol 1 or 2 would ignore.

    Raises:
        NotPossible: there is something of that kind.
    """
    names = [name for name in _SINCE_3 if sampling_params.get(name) not in (None, 1 if name == "n" else None)]
    names += [name for name, value in options.items() if value and name != "whole"]
    if isinstance(prompt, ChatPrompt):
        names += [name for name in ("continue_final_message", "tools") if getattr(prompt, name)]
    if names:
        raise error(", ".join(names))


def error(what: str) -> NotPossible:
    """Say that an engine is too old for something."""
    message = f"The engine was started by an earlier vllmd, which does not know {what}: release it and load it again."
    return NotPossible("ENGINE_OUTDATED", message, what=what)
