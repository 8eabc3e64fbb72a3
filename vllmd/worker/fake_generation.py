"""How a fake engine generates: all completions of a request advance by a token in each step."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec

from .backend import InvalidRequest, Output
from .fake_text import VOCABULARY, pieces
from .protocol import Candidate, Generate
from .vllm_arguments import refuse_foreign_tokens, refuse_priority

_MOST_LOGPROBS = 20


class FakeModel(msgspec.Struct, frozen=True):
    """What generation needs to know of the engine."""

    max_model_len: int
    scheduling_policy: str
    tokens_until_eos: int
    """0 for never."""


class _Completion:
    """One of the completions of a request, and what it says next."""

    def __init__(self, index: int, request: Generate, limit: int, eos: int) -> None:
        self.index = index
        self.finish: str | None = None
        self._params = request.sampling_params
        self._pieces = pieces(request.sampling_params, index, request.lora or "w")
        self._limit = limit
        self._eos = 0 if self._params.get("ignore_eos") else eos
        self._count = 0
        self._ahead = next(self._pieces)

    def step(self) -> Output:
        """Give the next token."""
        text, token = self._ahead
        self._count += 1
        following = next(self._pieces, None)
        stop = next((text_ for text_ in self._params.get("stop", ()) if text_ in text), None)
        stopped: Any = token if token in self._params.get("stop_token_ids", ()) else stop
        if self._count > self._params.get("min_tokens", 0) and stopped is not None:
            self.finish = "stop"
            if stop is not None and not self._params.get("include_stop_str_in_output"):
                text = text[: text.index(stop)]
        else:
            stopped = None
            if following is None or self._count == self._eos:
                self.finish = "stop"
            elif self._count >= self._limit:
                self.finish = "length"
        if following is not None:
            self._ahead = following
        places = logprobs([(text, token)], self._params.get("logprobs"))
        return Output(text, [token], self.finish, stopped, index=self.index, logprobs=places)


def logprobs(tokens: list[tuple[str, int]], count: int | None) -> list[list[Candidate]] | None:
    """Make up log probabilities: each token the likeliest, the next ids the next likely, each half as much."""
    if count is None:
        return None
    return [
        [
            Candidate((token + rank) % VOCABULARY, -(rank + 1) * math.log(2), rank + 1, text if rank == 0 else "?")
            for rank in range(max(1, count))
        ]
        for text, token in tokens
    ]


def _checked(request: Generate, model: FakeModel, prompt_tokens: int) -> None:
    params = request.sampling_params
    refuse_priority(request.priority, model.scheduling_policy)
    if prompt_tokens >= model.max_model_len:
        message = f"the prompt has {prompt_tokens} tokens, and the engine's max_model_len is {model.max_model_len}"
        raise InvalidRequest(message, "PROMPT_TOO_LONG", prompt_tokens=prompt_tokens, max_model_len=model.max_model_len)
    if (wanted := params.get("max_tokens")) is not None and wanted < 1:
        raise InvalidRequest(f"max_tokens must be at least 1, got {wanted}.", "INVALID_SAMPLING_PARAMS")
    for name in ("logprobs", "prompt_logprobs"):
        if (params.get(name) or 0) > _MOST_LOGPROBS:
            message = f"{name}: this engine gives 0 to {_MOST_LOGPROBS}, not {params[name]}"
            raise InvalidRequest(
                message, "INVALID_SAMPLING_PARAMS", field=name, value=params[name], limit=_MOST_LOGPROBS
            )
    for name in ("stop_token_ids", "allowed_token_ids", "logit_bias"):
        refuse_foreign_tokens(name, list(params.get(name, ())), VOCABULARY)


async def generate(
    request: Generate, model: FakeModel, prompt_tokens: int, step: Callable[[], Awaitable[None]]
) -> AsyncIterator[Output]:
    """Generate all completions; *step* waits for the end of the engine's next step.

    Raises:
        InvalidRequest: the request can't be served.
    """
    if request.truncate_prompt_tokens is not None:
        prompt_tokens = min(prompt_tokens, request.truncate_prompt_tokens)
    _checked(request, model, prompt_tokens)
    params = request.sampling_params
    limit = params.get("max_tokens") or model.max_model_len - prompt_tokens
    running = [_Completion(index, request, limit, model.tokens_until_eos) for index in range(params.get("n", 1))]
    prompt = logprobs([(f"p{at}", at % VOCABULARY) for at in range(1, prompt_tokens)], params.get("prompt_logprobs"))
    if prompt is not None:
        prompt.insert(0, [])
    gathered: dict[int, Output] = {}
    while running:
        await step()
        for output in _stepped(running):
            output.prompt_tokens, output.last = prompt_tokens, output.finish_reason is None or not running
            if request.whole:
                _append(gathered.setdefault(output.index, output), output)
                if output.finish_reason is None:
                    continue
            told = gathered.get(output.index, output)
            told.prompt_logprobs, prompt = prompt, None
            yield told


def _stepped(running: list[_Completion]) -> Iterator[Output]:
    """Give each completion its next token; those that have ended run no more."""
    for completion in list(running):
        output = completion.step()
        if output.finish_reason is not None:
            running.remove(completion)
        yield output


def _append(whole: Output, more: Output) -> None:
    if whole is more:
        return
    whole.text += more.text
    whole.token_ids = whole.token_ids + more.token_ids
    whole.finish_reason, whole.stop_reason, whole.last = more.finish_reason, more.stop_reason, more.last
    if whole.logprobs is not None:
        whole.logprobs += more.logprobs or []
