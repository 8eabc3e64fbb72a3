"""What `EngineService` makes of inputs without an engine's steps: tokens of a prompt, and text of tokens."""

from __future__ import annotations

from vllmd.api import callers, limits, parse, parse_prompt
from vllmd.api.methods import Context, Methods
from vllmd.api.status import raising
from vllmd.errors import InvalidRequest
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.worker import protocol
from vllmd.worker.report import EngineInfo


class InputMethods(Methods):
    """Tokenize and Detokenize. Each counts as a request of whoever makes it."""

    @raising
    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """Make tokens of a prompt."""
        prompt = parse_prompt.prompt(request.prompt)
        size = len(prompt.text.encode()) if isinstance(prompt, protocol.TextPrompt) else 0
        if size > limits.MAX_TEXT_BYTES:
            message = f"The text takes {size} bytes; at most {limits.MAX_TEXT_BYTES} are tokenized at once: split it."
            raise InvalidRequest("PROMPT_TOO_LARGE", message, bytes=size, limit_bytes=limits.MAX_TEXT_BYTES)
        special = request.add_special_tokens if request.HasField("add_special_tokens") else None
        question = protocol.Tokenize(0, prompt, special, request.return_token_texts)
        answer, info = await self._ask(request, question)
        assert isinstance(answer, protocol.Tokenized)
        return pb.TokenizeResponse(
            token_ids=answer.token_ids, token_texts=answer.texts, max_model_len=info.max_model_len
        )

    @raising
    async def Detokenize(self, request: pb.DetokenizeRequest, context: Context) -> pb.DetokenizeResponse:
        """Make text of tokens."""
        count, most = len(request.token_ids), limits.MAX_TOKENS
        if not 1 <= count <= most:
            message = f"token_ids has 1 to {most} entries, not {count}."
            raise InvalidRequest("INVALID_FIELD", message, field="token_ids", count=count, limit=most)
        question = protocol.Detokenize(0, list(request.token_ids), request.skip_special_tokens)
        answer, _ = await self._ask(request, question)
        assert isinstance(answer, protocol.Detokenized)
        return pb.DetokenizeResponse(text=answer.text)

    async def _ask(
        self, request: pb.TokenizeRequest | pb.DetokenizeRequest, question: protocol.Question
    ) -> tuple[protocol.Answer, EngineInfo]:
        lease_id, engine_id = parse.target(request)
        callers.check_model(lambda: self._model_of(lease_id, engine_id))
        with callers.counted(), self._scheduler.using(lease_id, engine_id) as entry:
            link = entry.link()
            asked = link.ask(question)
            try:
                return await asked.answer(), link.hello.engine
            finally:
                link.end(asked)
