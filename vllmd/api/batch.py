"""Many inputs to one engine on one stream: each that can't be served gets an error of its own, and the rest goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

from vllmd.api import callers, convert, limits, parse, parse_prompt, parse_sampling, window
from vllmd.api.convert_generation import logprobs_of_many, set_end, usage
from vllmd.api.methods import Context, Methods
from vllmd.api.status import raising, to_failure
from vllmd.engines.link import Link
from vllmd.engines.streams import Stream
from vllmd.errors import InvalidRequest, NotPossible, VllmdError
from vllmd.v1 import engine_pb2, generation_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.worker import protocol

_LENGTH_DELIMITED = 2
"""Of protobuf's wire types, the one of packed numbers."""

Response = pb.GenerateBatchResponse | pb.EmbedResponse


class BatchMethods(Methods):
    """GenerateBatch and Embed. A call counts as one request of whoever makes it, however many inputs it has."""

    @raising
    async def GenerateBatch(self, request: pb.GenerateBatchRequest, context: Context) -> None:
        """Generate from many prompts; a cancelled call aborts all of them in the engine."""
        limits.check_count(len(request.prompts), "prompts")
        params = parse_sampling.sampling_params(request.sampling_params)
        parse_sampling.check_batch(params, len(request.prompts))
        options = parse_sampling.options(request)
        large = not params.keys().isdisjoint(("logprobs", "prompt_logprobs"))

        async def one(link: Link, index: int) -> pb.GenerateBatchResponse:
            begun = time.monotonic()
            stream = link.start(parse_prompt.prompt(request.prompts[index]), params, **options, whole=True)
            try:
                generated = await gather(stream)
            finally:
                link.end(stream)
            generated.timings.total.CopyFrom(convert.duration(time.monotonic() - begun))
            return sendable(pb.GenerateBatchResponse(prompt_index=index, generated=generated))

        def refused(index: int, failure: engine_pb2.Failure) -> pb.GenerateBatchResponse:
            return pb.GenerateBatchResponse(prompt_index=index, failure=failure)

        await self._serve(request, request.prompts, context, one, refused, each=params.get("n", 1), large=large)

    @raising
    async def Embed(self, request: pb.EmbedRequest, context: Context) -> None:
        """Make a vector of each input; a cancelled call aborts all of them in the engine."""
        limits.check_count(len(request.inputs), "inputs")
        dimensions = _positive(request, "dimensions")
        truncate = _positive(request, "truncate_prompt_tokens")
        normalize = request.normalize if request.HasField("normalize") else None

        async def one(link: Link, index: int) -> pb.EmbedResponse:
            prompt = parse_prompt.prompt(request.inputs[index])
            question = protocol.Embed(0, prompt, dimensions, normalize, truncate, request.priority, request.lora)
            asked = link.ask(question)
            try:
                answer = await asked.answer()
            finally:
                link.end(asked)
            assert isinstance(answer, protocol.Embedded)
            return pb.EmbedResponse(input_index=index, embedding=embedding(answer))

        def refused(index: int, failure: engine_pb2.Failure) -> pb.EmbedResponse:
            return pb.EmbedResponse(input_index=index, failure=failure)

        await self._serve(request, request.inputs, context, one, refused)

    async def _serve(
        self,
        request: pb.GenerateBatchRequest | pb.EmbedRequest,
        inputs: Sequence[generation_pb2.Prompt],
        context: Context,
        one: Callable[[Link, int], Awaitable[Response]],
        refused: Callable[[int, engine_pb2.Failure], Response],
        *,
        each: int = 1,
        large: bool = False,
    ) -> None:
        """Serve each input, so many at once, and write what becomes of it once the client takes it.

        *each* and *large* are `window.width`'s.
        """
        lease_id, engine_id = parse.target(request)
        callers.check_model(lambda: self._model_of(lease_id, engine_id))
        self._check_adapter(lease_id, engine_id, request.lora)
        with callers.counted(), self._scheduler.using(lease_id, engine_id) as entry:
            link = entry.link()

            async def work(index: int) -> Response:
                try:
                    return await one(link, index)
                except VllmdError as error:
                    if ends_all(error, link):
                        raise
                    return refused(index, to_failure(error))

            results = window.completing(len(inputs), window.width(entry, each, large=large), work)
            async with contextlib.aclosing(results):  # type: ignore[type-var]
                async for response in results:
                    await context.write(response)


def ends_all(error: VllmdError, link: Link) -> bool:
    """Tell whether an error is of the engine, or of what is asked of it for all inputs, and not of one of them."""
    return isinstance(error, NotPossible) or not (link.open or isinstance(error, InvalidRequest))


async def gather(stream: Stream) -> pb.Generated:
    """Read a generation to its end; it comes in pieces from workers of protocol 2 and before."""
    generated = pb.Generated()
    completions: dict[int, pb.Completion] = {}
    last = False
    while not last:
        chunk = await stream.next()
        completion = completions.setdefault(chunk.index, pb.Completion())
        completion.text += chunk.text
        completion.token_ids.extend(chunk.token_ids)
        completion.logprobs.extend(await logprobs_of_many(chunk.logprobs))
        generated.prompt_logprobs.extend(await logprobs_of_many(chunk.prompt_logprobs))
        set_end(completion, chunk)
        last = chunk.last
    generated.completions.extend(completions[index] for index in sorted(completions))
    generated.usage.CopyFrom(usage(stream))
    return generated


def sendable(response: pb.GenerateBatchResponse) -> pb.GenerateBatchResponse:
    """Check that a result fits into a message.

    Raises:
        InvalidRequest: it does not.
    """
    size, limit = response.ByteSize(), limits.MAX_RESPONSE_BYTES
    if size > limit:
        message = f"The result takes {size} bytes; at most {limit} can be sent: ask for less at once, or use Generate."
        raise InvalidRequest("RESULT_TOO_LARGE", message, bytes=size, limit_bytes=limit)
    return response


def embedding(answer: protocol.Embedded) -> pb.Embedding:
    """Convert a vector. The link has its numbers as a message has them: 4096 need not become Python's in 290 µs."""
    result = pb.Embedding(prompt_tokens=answer.prompt_tokens)
    key = pb.Embedding.VALUES_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
    result.MergeFromString(bytes((key, *_varint(len(answer.values)))) + answer.values)
    return result


def _varint(number: int) -> bytes:
    """Write a number as protobuf does: 7 bits a byte, the lowest first."""
    length = bytearray()
    while number > 0x7F:
        length.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*length, number))


def _positive(request: pb.EmbedRequest, field: str) -> int | None:
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    value: int = getattr(request, field)
    if value < 1:
        raise InvalidRequest("INVALID_FIELD", f"{field} is at least 1, not {value}.", field=field, value=value)
    return value
