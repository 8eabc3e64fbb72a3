"""What of `VllmInputs` is ours and not vLLM's, on a stand-in for that; `tests/real/test_inputs.py` has the real one."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.scripted_worker import DEADLINE_SECONDS
from vllmd.tasks import spawn
from vllmd.worker.backend import Impossible, InvalidRequest
from vllmd.worker.protocol import ChatPrompt, Detokenize, Detokenized, Embed, Prompt, TextPrompt, Tokenize, TokenPrompt
from vllmd.worker.vllm_inputs import VllmInputs, as_text

CHAT = ChatPrompt([{"role": "user", "content": "hi"}], {})


@dataclasses.dataclass
class Params:
    """As vLLM's `TokenizeParams`."""

    do_lower_case: bool = False
    add_special_tokens: bool = True
    truncate_prompt_tokens: int | None = None
    truncation_side: str | None = None


class Letters:
    """A tokenizer whose tokens are letters; 0 begins a text."""

    def __init__(self) -> None:
        self.truncation_side = "left"
        self.threads: list[str] = []

    def __call__(self, text: str, add_special_tokens: bool, truncation: bool) -> dict[str, list[int]]:
        assert not truncation
        self.threads.append(threading.current_thread().name)
        return {"input_ids": [0] * add_special_tokens + [ord(letter) for letter in text]}

    def __deepcopy__(self, memo: object) -> Letters:
        copied = Letters()
        copied.threads = self.threads  # so that the test sees them
        return copied

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        return [chr(token) if token else None for token in ids]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return "".join(chr(token) if token else "^" * (not skip_special_tokens) for token in ids)


class Renderer:
    """As vLLM's, as far as it is used."""

    def __init__(self) -> None:
        self.tokenizer: Letters | None = Letters()
        self.default_cmpl_tok_params = Params()
        self.given: list[Params] = []

    def get_tokenizer(self) -> Any:
        return self.tokenizer

    async def render_cmpl_async(self, prompts: list[dict[str, str]], params: Params) -> list[dict[str, list[int]]]:
        self.given.append(params)
        return [{"prompt_token_ids": [1] * (params.truncate_prompt_tokens or 0)} for _ in prompts]


class Engine:
    """As vLLM's `AsyncLLM`: a request never ends by itself."""

    def __init__(self) -> None:
        self.renderer = Renderer()
        self.model_config = SimpleNamespace(
            get_vocab_size=lambda: 200,
            is_matryoshka=True,
            matryoshka_dimensions=[4, 8],
            embedding_size=8,
            max_model_len=100,
        )
        self.vllm_config = SimpleNamespace(scheduler_config=SimpleNamespace(policy="fcfs"))
        self.tasks = ["embed", "token_embed"]
        self.prompts: list[dict[str, list[int]]] = []
        self.aborted: list[str] = []

    async def get_supported_tasks(self) -> list[str]:
        return self.tasks

    async def encode(
        self, prompt: Any, params: Any, request_id: str, lora_request: Any, priority: int
    ) -> AsyncIterator[object]:
        self.prompts.append(prompt)
        await asyncio.Event().wait()
        yield None

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)


async def render(prompt: Prompt) -> dict[str, list[int]]:
    """Any prompt but tokens is long."""
    return {"prompt_token_ids": prompt.token_ids if isinstance(prompt, TokenPrompt) else [7] * 50}


@pytest.fixture
def engine() -> Engine:
    """An engine that makes vectors."""
    return Engine()


def inputs(engine: Engine) -> VllmInputs:
    return VllmInputs(engine, render, itertools.count(5), dict, lambda name: name or None)


async def begun(engine: Engine, question: Embed) -> dict[str, list[int]]:
    """Ask for a vector until vLLM has been given the input; then give it up."""
    asking = spawn("asks", inputs(engine).answer(question))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not engine.prompts:
            await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    return engine.prompts[0]


async def test_a_vector_that_nobody_waits_for_is_aborted(engine: Engine) -> None:
    """By the number that vLLM knows the request by."""
    await begun(engine, Embed(1, TokenPrompt([1, 2])))

    assert engine.aborted == ["5"]


@pytest.mark.parametrize(
    ("prompt", "expected"), [(TokenPrompt([1, 2, 3]), [1, 2]), (CHAT, [7, 7]), (TextPrompt("abc"), [1, 1])]
)
async def test_an_input_is_cut_to_its_first_tokens(engine: Engine, prompt: Prompt, expected: list[int]) -> None:
    """Of a text by vLLM, which keeps what the tokenizer puts around it, and from the right whatever is its habit."""
    given = await begun(engine, Embed(1, prompt, truncate_prompt_tokens=2))

    assert given["prompt_token_ids"] == expected
    if isinstance(prompt, TextPrompt):
        assert engine.renderer.given == [Params(truncate_prompt_tokens=2, truncation_side="right")]


@pytest.mark.parametrize(
    ("tasks", "changes", "reason"),
    [
        (["classify"], {}, "NOT_AN_EMBEDDING_MODEL"),
        (["embed"], {"dimensions": 5}, "DIMENSIONS_UNSUPPORTED"),
        (["embed"], {"priority": 1}, "PRIORITY_UNSUPPORTED"),
    ],
)
async def test_what_the_engine_can_not_do_is_refused(
    engine: Engine, tasks: list[str], changes: dict[str, Any], reason: str
) -> None:
    """For every input alike."""
    engine.tasks = tasks
    with pytest.raises(Impossible) as refused:
        await inputs(engine).answer(Embed(1, TextPrompt("a"), **changes))

    assert refused.value.reason == reason
    assert not engine.prompts


@pytest.mark.parametrize(("matryoshka", "known", "dimensions"), [(False, None, 4), (True, None, 9), (True, [4], 8)])
async def test_vectors_are_only_as_long_as_the_model_makes_them(
    engine: Engine, matryoshka: bool, known: list[int] | None, dimensions: int
) -> None:
    """One without Matryoshka, one of any length up to its own, one of a few lengths."""
    engine.model_config.is_matryoshka, engine.model_config.matryoshka_dimensions = matryoshka, known
    with pytest.raises(Impossible) as refused:
        await inputs(engine).answer(Embed(1, TextPrompt("a"), dimensions=dimensions))

    assert refused.value.metadata == {"dimensions": str(dimensions), "largest": "8"}


@pytest.mark.parametrize(("special", "begins"), [(None, True), (True, True), (False, False)])
async def test_a_text_is_tokenized_as_for_a_generation(engine: Engine, special: bool | None, begins: bool) -> None:
    """In one thread that is not the event loop's, whatever its length, and with each token's text if wanted."""
    asked = inputs(engine)
    engine.renderer.default_cmpl_tok_params = Params(do_lower_case=True)
    answers = [await asked.answer(Tokenize(1, TextPrompt("AB"), special, texts=True)) for _ in range(2)]
    assert engine.renderer.tokenizer is not None

    assert answers[0] == answers[1]
    assert getattr(answers[0], "token_ids", None) == [0] * begins + [ord("a"), ord("b")]
    assert getattr(answers[0], "texts", None) == [""] * begins + ["a", "b"]
    assert {name[:9] for name in engine.renderer.tokenizer.threads} == {"tokenizer"}


async def test_other_prompts_are_rendered_as_for_a_generation(engine: Engine) -> None:
    """Tokens are their own."""
    asked = inputs(engine)

    assert getattr(await asked.answer(Tokenize(1, TokenPrompt([4, 5]))), "token_ids", None) == [4, 5]
    assert getattr(await asked.answer(Tokenize(1, CHAT)), "token_ids", None) == [7] * 50


async def test_tokens_become_text(engine: Engine) -> None:
    """With special ones or without; none that the model has not."""
    asked = inputs(engine)

    assert await asked.answer(Detokenize(1, [0, 97])) == Detokenized(1, "^a")
    assert await asked.answer(Detokenize(1, [0, 97], skip_special_tokens=True)) == Detokenized(1, "a")
    with pytest.raises(InvalidRequest) as refused:
        await asked.answer(Detokenize(1, [200]))
    assert refused.value.reason == "TOKEN_OUT_OF_VOCABULARY"


async def test_an_engine_without_a_tokenizer_says_so(engine: Engine) -> None:
    """vLLM may be loaded without one."""
    engine.renderer.tokenizer = None
    with pytest.raises(Impossible) as refused:
        await inputs(engine).answer(Tokenize(1, TextPrompt("a")))

    assert refused.value.reason == "NO_TOKENIZER"


@pytest.mark.parametrize(("token", "shown"), [("a", "a"), (b"\xc3\xa9", "é"), (b"\xff", "\ufffd"), (None, "")])
def test_tokens_are_shown_as_text(token: str | bytes | None, shown: str) -> None:
    """Whatever a tokenizer has for them."""
    assert as_text(token) == shown
