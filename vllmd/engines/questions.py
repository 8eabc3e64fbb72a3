"""What is asked of a worker and has one answer: a vector, the tokens of a text, the text of tokens."""

from __future__ import annotations

import asyncio

from vllmd.errors import EngineFailed, InvalidRequest, NotPossible, VllmdError
from vllmd.worker import protocol
from vllmd.worker.protocol import Answer

_OF_REQUEST = "INVALID_PROMPT_OR_PARAMS"
"""What is wrong with a request for which the worker has no reason of its own."""


class Asked:
    """One question, between the link that brings its answer and the RPC that waits for it.

    Args:
        question: with its number on the link.
    """

    __slots__ = ("_answer", "id", "in_core")

    def __init__(self, question: protocol.Question) -> None:
        self.id = question.stream
        self.in_core = isinstance(question, protocol.Embed)
        """Whether EngineCore works at it: others say nothing of its progress."""
        self._answer: asyncio.Future[Answer | VllmdError] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        """True once it has been answered, or can't be."""
        return self._answer.done()

    def put(self, answer: Answer) -> None:
        """Take the answer; whoever waits runs soon."""
        if not self.ended:
            self._answer.set_result(answer)

    def fail(self, error: VllmdError) -> None:
        """End without an answer."""
        if not self.ended:
            self._answer.set_result(error)

    async def answer(self) -> Answer:
        """Wait for the answer.

        Raises:
            VllmdError: there is none.
        """
        answer = await self._answer
        if isinstance(answer, VllmdError):
            raise answer
        return answer


def refusal(event: protocol.Refused) -> VllmdError:
    """Make an error of what a worker says of one request."""
    error: VllmdError
    match event.kind:
        case "invalid":
            error = InvalidRequest(event.reason or _OF_REQUEST, _sentence(event.message))
        case "impossible":
            error = NotPossible(event.reason or _OF_REQUEST, _sentence(event.message))
        case _:
            message = f"The engine failed at this request: {event.message.removesuffix('.')}."
            return EngineFailed("GENERATION_FAILED", message, error=event.message)
    error.metadata = dict(event.metadata)  # by no keyword: a worker's keys may be any
    return error


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def check_length(prompt: protocol.Prompt, max_model_len: int) -> None:
    """Refuse token ids that no context holds before they are copied any further; a text's are the engine's to count.

    Raises:
        InvalidRequest: there are more than the model takes.
    """
    if isinstance(prompt, protocol.TokenPrompt) and 0 < max_model_len < len(prompt.token_ids):
        count = len(prompt.token_ids)
        message = f"The prompt has {count} tokens, and the engine's max_model_len is {max_model_len}."
        raise InvalidRequest("PROMPT_TOO_LONG", message, prompt_tokens=count, max_model_len=max_model_len)


def check_runner(runner_type: str, request: protocol.Generate | protocol.Question) -> None:
    """Refuse what an engine is not for, by vLLM's word for what it is.

    Raises:
        NotPossible: it makes vectors and is to generate, or the other way round.
    """
    pools = runner_type == "pooling"
    if isinstance(request, protocol.Generate) and pools:
        message = (
            "The engine makes no text: it was loaded with runner=pooling, or is of a model that only pools. Use Embed."
        )
        raise NotPossible("NOT_A_GENERATING_MODEL", message, runner_type=runner_type)
    if isinstance(request, protocol.Embed) and not pools:
        message = (
            "The engine generates and makes no vectors: load an embedding model, or this one with the engine arguments "
            "runner=pooling and convert=embed."
        )
        raise NotPossible("NOT_AN_EMBEDDING_MODEL", message, runner_type=runner_type)
