"""What `EngineService` generates from one prompt: a stream of tokens."""

from __future__ import annotations

import time

from vllmd.api import callers, convert, parse, parse_prompt, parse_sampling
from vllmd.api.convert_generation import logprobs, logprobs_of_many, set_end, usage
from vllmd.api.methods import Context, Methods
from vllmd.api.status import raising
from vllmd.engines.streams import Chunk, Stream
from vllmd.v1 import engine_service_pb2 as pb


class GenerationMethods(Methods):
    """Generate."""

    @raising
    async def Generate(self, request: pb.GenerateRequest, context: Context) -> None:
        """Stream tokens; a cancelled call aborts the request in the engine.

        It writes rather than yields: each generator on the way would be woken for each token.
        """
        begun = time.monotonic()
        lease_id, engine_id = parse.target(request)
        prompt = parse_prompt.prompt(request)
        params = parse_sampling.sampling_params(request.sampling_params)
        options = parse_sampling.options(request)
        callers.check_model(lambda: self._model_of(lease_id, engine_id))
        self._check_adapter(lease_id, engine_id, request.lora)
        running = self._scheduler.generating(lease_id, engine_id, prompt, params, **options)
        with callers.counted(), running as stream:
            first: float | None = None
            while True:
                chunk = await stream.next()
                first = first or time.monotonic() - begun
                response = _response(chunk)
                if chunk.prompt_logprobs is not None:
                    response.prompt_logprobs.extend(await logprobs_of_many(chunk.prompt_logprobs))
                if chunk.last:
                    _set_last(response, stream, first, begun)
                await context.write(response)
                if chunk.last:
                    return


def _response(chunk: Chunk) -> pb.GenerateResponse:
    response = pb.GenerateResponse(text=chunk.text, token_ids=chunk.token_ids)
    if chunk.index:
        response.index = chunk.index
    set_end(response, chunk)
    if chunk.logprobs is not None:
        response.logprobs.extend(logprobs(chunk.logprobs))
    return response


def _set_last(response: pb.GenerateResponse, stream: Stream, first: float, begun: float) -> None:
    response.usage.CopyFrom(usage(stream))
    response.timings.time_to_first_token.CopyFrom(convert.duration(first))
    response.timings.total.CopyFrom(convert.duration(time.monotonic() - begun))
