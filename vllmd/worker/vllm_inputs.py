"""What vLLM makes of inputs without generating: vectors, tokens of a text, and the text of tokens.

Texts are tokenized by a copy of the engine's tokenizer, in a thread of its own: a long text would keep the event loop
from everything else, and vLLM's thread from the prompts of others. The copy is needed since a tokenizer of Hugging
Face's that two threads use at once fails with `Already borrowed`; vLLM copies it for its own threads as well.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

from .backend import Impossible, InvalidRequest
from .protocol import (
    Answer,
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    Prompt,
    Question,
    TextPrompt,
    Tokenize,
    Tokenized,
    TokenPrompt,
)
from .vllm_arguments import refuse_foreign_tokens, refuse_priority

T = TypeVar("T")
_TASK = "embed"


class VllmInputs:
    """Answers what is asked of one engine.

    Args:
        engine: vLLM's `AsyncLLM`.
        render: turns a prompt into what vLLM takes, with its `prompt_token_ids`, as for a generation.
        request_ids: for vLLM's requests.
        params_type: vLLM's `PoolingParams`.
        adapter: finds vLLM's `LoRARequest` by a name; raises `InvalidRequest` if there is none.
    """

    def __init__(
        self,
        engine: Any,
        render: Callable[[Prompt], Awaitable[Any]],
        request_ids: Iterator[int],
        params_type: Callable[..., Any],
        adapter: Callable[[str], Any],
    ) -> None:
        self._engine = engine
        self._params_type = params_type
        self._adapter = adapter
        self._render = render
        self._request_ids = request_ids
        self._vocab_size: int = engine.model_config.get_vocab_size()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "tokenizer")
        self._tokenizer: Any = None

    async def answer(self, question: Question) -> Answer:
        """Answer; being cancelled aborts the request in the engine.

        Raises:
            InvalidRequest: it can't be answered.
            Exception: whatever else vLLM raises.
        """
        match question:
            case Embed():
                return await self._embed(question)
            case Tokenize():
                return await self._tokenize(question)
            case Detokenize():
                return await self._detokenize(question)

    # Vectors.

    async def _embed(self, question: Embed) -> Embedded:
        if _TASK not in (tasks := await self._engine.get_supported_tasks()):
            message = f"this engine makes no vectors; what it does is {', '.join(tasks)}"
            raise Impossible(message, "NOT_AN_EMBEDDING_MODEL")
        self._check_dimensions(question.dimensions)
        refuse_priority(question.priority, self._engine.vllm_config.scheduler_config.policy)
        params = self._params_type(task=_TASK, dimensions=question.dimensions, use_activation=question.normalize)
        prompt = await self._rendered(question)
        self._measure(len(prompt["prompt_token_ids"]))
        request_id = str(next(self._request_ids))
        lora = self._adapter(question.lora)
        results = self._engine.encode(prompt, params, request_id, lora_request=lora, priority=question.priority)
        try:
            result = await anext(results)
        except asyncio.CancelledError:
            # vLLM aborts what it has handed to EngineCore, but not what it is about to.
            await self._engine.abort(request_id)
            raise
        finally:
            await results.aclose()
        if (error := getattr(result, "error", None)) is not None:  # since 0.30, for one request
            raise RuntimeError(str(error))
        values = result.outputs.data.detach().float().cpu().numpy().astype("<f4").tobytes()
        return Embedded(question.stream, values, len(result.prompt_token_ids))

    def _measure(self, count: int) -> None:
        if not count:
            raise InvalidRequest("the input is empty: it has no token", "INVALID_FIELD", field="inputs")
        if count > (most := self._engine.model_config.max_model_len):
            message = (
                f"the input has {count} tokens, and the engine's max_model_len is {most}: shorten it, or set "
                "truncate_prompt_tokens"
            )
            raise InvalidRequest(message, "PROMPT_TOO_LONG", prompt_tokens=count, max_model_len=most)

    def _check_dimensions(self, dimensions: int | None) -> None:
        """Refuse what vLLM would refuse, with a reason and the numbers."""
        if dimensions is None:
            return
        model = self._engine.model_config
        most = int(model.embedding_size)
        numbers = {"dimensions": dimensions, "largest": most}
        if not model.is_matryoshka:
            message = f"dimensions: the vectors of this model have {most} numbers and can't be shortened"
            raise Impossible(message, "DIMENSIONS_UNSUPPORTED", **numbers)
        known = tuple(model.matryoshka_dimensions or ())
        if not 1 <= dimensions <= most or (known and dimensions not in known):
            of = f"one of {', '.join(map(str, known))}" if known else f"1 to {most}"
            message = f"dimensions: {of} for this model, not {dimensions}"
            raise Impossible(message, "DIMENSIONS_UNSUPPORTED", **numbers)

    async def _rendered(self, question: Embed) -> Any:
        """Turn the input into tokens, no more than asked for; of a text the special ones are kept, as is usual."""
        prompt, most = question.prompt, question.truncate_prompt_tokens
        if most is None:
            return await self._render(prompt)
        if isinstance(prompt, TokenPrompt):
            return await self._render(TokenPrompt(prompt.token_ids[:most]))
        if not isinstance(prompt, TextPrompt):
            rendered = await self._render(prompt)
            return rendered | {"prompt_token_ids": rendered["prompt_token_ids"][:most]}
        renderer = self._engine.renderer
        changes: dict[str, Any] = {"truncate_prompt_tokens": most}
        if renderer.get_tokenizer().truncation_side != "right":
            changes["truncation_side"] = "right"
        params = dataclasses.replace(renderer.default_cmpl_tok_params, **changes)
        (rendered,) = await renderer.render_cmpl_async([{"prompt": prompt.text}], params)
        return rendered

    # Tokens.

    async def _tokenize(self, question: Tokenize) -> Tokenized:
        if isinstance(question.prompt, TextPrompt):
            ids = await self._aside(self._encode, question.prompt.text, question.add_special_tokens)
        else:
            ids = list((await self._render(question.prompt))["prompt_token_ids"])
        texts = await self._aside(self._texts, ids) if question.texts else []
        return Tokenized(question.stream, ids, texts)

    async def _detokenize(self, question: Detokenize) -> Detokenized:
        refuse_foreign_tokens("token_ids", question.token_ids, self._vocab_size)
        text = await self._aside(self._decode, question.token_ids, question.skip_special_tokens)
        return Detokenized(question.stream, text)

    async def _aside(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    # In the thread.

    def _copied(self) -> Any:
        if self._tokenizer is None:
            tokenizer = self._engine.renderer.tokenizer
            if tokenizer is None:
                raise Impossible(
                    "the engine was loaded with skip_tokenizer_init, so it has no tokenizer", "NO_TOKENIZER"
                )
            self._tokenizer = copy.deepcopy(tokenizer)
        return self._tokenizer

    def _encode(self, text: str, add_special_tokens: bool | None) -> list[int]:
        """Tokenize as vLLM's renderer does, but for its limit: who counts the tokens of a text may have a long one."""
        tokenizer, params = self._copied(), self._engine.renderer.default_cmpl_tok_params
        if params.do_lower_case:
            text = text.lower()
        special = params.add_special_tokens if add_special_tokens is None else add_special_tokens
        return list(tokenizer(text, add_special_tokens=special, truncation=False)["input_ids"])

    def _texts(self, ids: Sequence[int]) -> list[str]:
        return [as_text(token) for token in self._copied().convert_ids_to_tokens(ids)]

    def _decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return str(self._copied().decode(ids, skip_special_tokens=skip_special_tokens))


def as_text(token: str | bytes | None) -> str:
    """Say how a tokenizer writes a token: some have bytes, and none for an id that only pads the vocabulary."""
    return token.decode(errors="replace") if isinstance(token, bytes) else token or ""
