"""A loaded model and the lease on it, with asyncio."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc

from vllmd.client.aio.connection import AsyncStream
from vllmd.client.aio.keeper import AsyncKeeper
from vllmd.client.answers import BatchResult, InOrder, batch_result, vector
from vllmd.client.errors import VllmdError
from vllmd.client.generation import Generation
from vllmd.client.prompts import ChatOptions, Message, Prompt, conversation
from vllmd.client.requests import BatchOptions, EmbedOptions, GenerateOptions
from vllmd.client.translation import released
from vllmd.client.values import Seconds
from vllmd.v1 import engine_pb2
from vllmd.v1 import engine_service_pb2 as pb

if TYPE_CHECKING:
    from vllmd.client.aio.client import AsyncClient


class AsyncLoadedModel:
    """What `AsyncClient.load` brings: generate with it, and release it, best by an `async with` block.

    Its lease is kept in the background; if that fails, because the engine did or the daemon is gone, the next method
    that is called raises why. A lease that is held ends with this object, so don't let go of it.
    """

    def __init__(self, client: AsyncClient, loaded: pb.LoadedModel, keeper: AsyncKeeper) -> None:
        self.engine: engine_pb2.Engine = loaded.engine
        """The engine as it was when the load ended."""
        self.reused: bool = loaded.reused
        """True if the engine was already loaded."""
        self._client = client
        self._keeper = keeper
        self._released = False
        # The task knows the keeper alone, so that a model which nobody refers to any more is not kept by it.
        weakref.finalize(self, keeper.abandon).atexit = False

    def __repr__(self) -> str:
        return f"<AsyncLoadedModel {self.engine.model} {self.engine.name}>"

    @property
    def lease(self) -> engine_pb2.Lease:
        """The lease, as it was when it was last renewed."""
        return self._keeper.lease

    def generate(
        self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncStream[pb.GenerateResponse]:
        """Generate from text, token ids or messages, and stream what comes, each part with its `text`.

        Parts are the daemon's own `GenerateResponse`; `finish_reason_of` names the end of one. Closing the stream, or
        leaving its `async with` block, aborts the request in the engine.
        """
        return self._client.generate(self._source(), prompt, timeout=timeout, **options)

    def chat(
        self, messages: str | Sequence[Message], *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncStream[pb.GenerateResponse]:
        """Generate the next message of a conversation; a text alone is what a user says."""
        return self.generate(conversation(messages), timeout=timeout, **options)

    async def complete(
        self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Generation:
        """Generate, and return the whole: `text`, `token_ids`, `finish_reason`, `usage`, `completions`."""
        async with self.generate(prompt, timeout=timeout, **options) as stream:
            generation = Generation()
            async for response in stream:
                generation.add(response)
        return generation

    def generate_batch(
        self, prompts: Sequence[Prompt], *, timeout: float | None = None, **options: Unpack[BatchOptions]
    ) -> AsyncStream[BatchResult]:
        """Generate from each of at most 10,000 prompts; results come as they are complete, each with its index.

        A prompt that can't be served has its error in its result, and the others go on.
        """
        stream = self._client.generate_batch(self._source(), prompts, timeout=timeout, **options)
        return stream.map(batch_result)

    async def complete_batch(
        self, prompts: Sequence[Prompt], *, timeout: float | None = None, **options: Unpack[BatchOptions]
    ) -> list[Generation]:
        """Generate from each prompt, and return the results in the prompts' order.

        Raises what the first prompt that can't be served failed with, and aborts the others.
        """
        found: InOrder[Generation] = InOrder(len(prompts))
        async with self.generate_batch(prompts, timeout=timeout, **options) as stream:
            async for result in stream:
                found.put(result.index, result.generation)
        return found.whole()

    async def embed(
        self, inputs: Sequence[Prompt], *, timeout: float | None = None, **options: Unpack[EmbedOptions]
    ) -> list[list[float]]:
        """Make a vector of each of at most 10,000 inputs, and return them in the inputs' order.

        Each is as long as the model's embeddings are wide, or has `dimensions` numbers. Raises what the first input
        that can't be served failed with, and `NotPossible` `NOT_AN_EMBEDDING_MODEL` from a model that generates.
        """
        found: InOrder[list[float]] = InOrder(len(inputs))
        async with self._client.embed(self._source(), inputs, timeout=timeout, **options) as stream:
            async for response in stream:
                found.put(response.input_index, vector(response))
        return found.whole()

    async def tokenize(
        self,
        prompt: Prompt,
        *,
        add_special_tokens: bool | None = None,
        return_token_texts: bool = False,
        timeout: float | None = None,
        **chat: Unpack[ChatOptions],
    ) -> pb.TokenizeResponse:
        """Make token ids of a prompt, as `generate` would; see `AsyncClient.tokenize`."""
        return await self._client.tokenize(
            self._source(),
            prompt,
            add_special_tokens=add_special_tokens,
            return_token_texts=return_token_texts,
            timeout=timeout,
            **chat,
        )

    async def detokenize(
        self, token_ids: Sequence[int], *, skip_special_tokens: bool = False, timeout: float | None = None
    ) -> str:
        """Make text of token ids."""
        return await self._client.detokenize(
            self._source(), token_ids, skip_special_tokens=skip_special_tokens, timeout=timeout
        )

    async def renew(self, ttl: Seconds | None = None) -> engine_pb2.Lease:
        """Extend the lease from now, and give it another length if *ttl* says so; one that is held stays as it is."""
        lease = await self._client.renew(self._source(), ttl)
        self._keeper.changed(lease)
        return lease

    async def wait(self) -> None:
        """Block until the lease ends; raises `VllmdError` if its engine failed or was stopped."""
        await self._keeper.join()

    async def release(self) -> engine_pb2.Engine:
        """End the lease and return what became of the engine."""
        self._released = True
        # The RPC comes before the end of a held stream, since only its answer has the proof of what was given back.
        try:
            return await self._client.release(self.lease.name)
        finally:
            self._keeper.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._released:
            return
        try:
            await self.release()
        except VllmdError as failure:
            # A lease that has ended by itself is what was wanted; and the block's own error matters more than ours.
            if error is None and failure.code is not grpc.StatusCode.NOT_FOUND:
                raise

    def _source(self) -> str:
        if self._released:
            raise released(self.engine.model)
        self._keeper.check()
        return self.lease.name


class Loading(Awaitable[AsyncLoadedModel]):
    """A load that begins when it is awaited, or entered with `async with`, which releases the model at its end."""

    def __init__(self, load: Callable[[], Coroutine[Any, Any, AsyncLoadedModel]]) -> None:
        self._load = load
        self._model: AsyncLoadedModel | None = None

    def __await__(self) -> Generator[Any, Any, AsyncLoadedModel]:
        return self._load().__await__()

    async def __aenter__(self) -> AsyncLoadedModel:
        self._model = await self._load()
        return self._model

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._model is not None
        await self._model.__aexit__(kind, error, trace)
