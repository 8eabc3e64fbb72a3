"""Everything that a client of the daemon can ask for, with asyncio."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, Unpack

from vllmd.client import requests
from vllmd.client.aio.connection import AsyncConnection, AsyncStream
from vllmd.client.aio.host_methods import AsyncHostMethods
from vllmd.client.aio.keeper import AsyncKeeper
from vllmd.client.aio.loaded import AsyncLoadedModel, Loading
from vllmd.client.answers import broken, gone_before
from vllmd.client.errors import VllmdError
from vllmd.client.prompts import ChatOptions, Prompt
from vllmd.client.requests import BatchOptions, EmbedOptions, GenerateOptions, ModelOptions
from vllmd.client.target import default_target, normalize
from vllmd.client.values import Seconds, duration
from vllmd.v1 import engine_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub


class AsyncClient(AsyncHostMethods):
    """A connection to one daemon for asyncio, made where a loop runs; every failure is a `VllmdError`.

    The methods are `Client`'s, to be awaited; streams are for `async for`, and loading is for `async with` or `await`.
    Cancelling a task cancels the call that it waits for. *target*, *connect_timeout* and *timeout* are as for `Client`.
    """

    def __init__(self, target: str | os.PathLike[str] | None = None, *, connect_timeout: float = 0.0) -> None:
        self.target = normalize(target) if target else default_target()
        super().__init__(AsyncConnection(self.target, connect_timeout))
        self._engines = EngineServiceStub(self._connection.channel)
        self._keepers: weakref.WeakSet[AsyncKeeper] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<AsyncClient {self.target}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and every call on it, held leases too; those that are not held last their time."""
        for keeper in list(self._keepers):
            keeper.stop()
        await self._connection.close()

    async def wait_until_ready(self, timeout: float) -> None:
        """Wait for the daemon to answer; raises `DaemonUnreachable` if it does not in time."""
        await self._connection.wait_until_ready(timeout)

    def load(
        self,
        model: str,
        *,
        hold: bool | None = None,
        lease_ttl: Seconds | None = None,
        on_progress: Callable[[engine_pb2.LoadProgress], Awaitable[None] | None] | None = None,
        **options: Unpack[ModelOptions],
    ) -> Loading:
        """Load a model, or share the engine that has it: `async with client.load(…) as llm` or `await client.load(…)`.

        The lease on it is held: it ends with the `async with` block, `release`, this client or its process, whichever
        is first. Give *lease_ttl*, its length in seconds, or `hold=False` for one that others can go on with by its
        name; it is renewed in the background as long as the result is in use, and lasts its length from then on.

        *on_progress* is called, and awaited if it is a coroutine function, at each step, and at least every second. An
        exception out of it cancels the load, as does cancelling the task.
        """
        hold = lease_ttl is None if hold is None else hold
        request = requests.load_request(model, options, lease_ttl=lease_ttl, hold=hold)
        return Loading(functools.partial(self._load, request, on_progress))

    async def _load(
        self,
        request: pb.LoadModelRequest,
        on_progress: Callable[[engine_pb2.LoadProgress], Awaitable[None] | None] | None,
    ) -> AsyncLoadedModel:
        stream = self._connection.stream(self._engines.LoadModel, request)
        try:
            loaded = await _wait_for_loaded(stream, on_progress)
            if not request.hold:
                # The daemon ends the stream here; were it cancelled instead, the load could look given up.
                async for _ in stream:
                    pass
        except BaseException:
            stream.cancel()
            raise
        keeper = AsyncKeeper(loaded.lease, stream if request.hold else None, self.renew)
        self._keepers.add(keeper)
        return AsyncLoadedModel(self, loaded, keeper)

    async def plan(
        self, model: str, *, timeout: float | None = None, **options: Unpack[ModelOptions]
    ) -> pb.PlanModelResponse:
        """Work out how `load` would start an engine now, and start none; raises what `load` would."""
        return await self._connection.unary(self._engines.PlanModel, requests.plan_request(model, options), timeout)

    def generate(
        self, source: str, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncStream[pb.GenerateResponse]:
        """Generate from text, token ids or messages; closing the stream aborts the request in the engine.

        *source* is the name of a lease, which begins with `leases/`, or of an engine.
        """
        request = requests.generate_request(source, prompt, options)
        return self._connection.stream(self._engines.Generate, request, timeout)

    def generate_batch(
        self, source: str, prompts: Sequence[Prompt], *, timeout: float | None = None, **options: Unpack[BatchOptions]
    ) -> AsyncStream[pb.GenerateBatchResponse]:
        """Generate from each of at most 10,000 prompts; results come as they are complete, each with its index.

        One that can't be served gets a `failure` of its own. `chat_prompt` makes a prompt with template variables.
        """
        request = requests.batch_request(source, prompts, options)
        return self._connection.stream(self._engines.GenerateBatch, request, timeout)

    def embed(
        self, source: str, inputs: Sequence[Prompt], *, timeout: float | None = None, **options: Unpack[EmbedOptions]
    ) -> AsyncStream[pb.EmbedResponse]:
        """Make a vector of each of at most 10,000 inputs; they come as they are complete, each with its index."""
        request = requests.embed_request(source, inputs, options)
        return self._connection.stream(self._engines.Embed, request, timeout)

    async def tokenize(
        self,
        source: str,
        prompt: Prompt,
        *,
        add_special_tokens: bool | None = None,
        return_token_texts: bool = False,
        timeout: float | None = None,
        **chat: Unpack[ChatOptions],
    ) -> pb.TokenizeResponse:
        """Make token ids of a prompt, as `generate` would.

        *add_special_tokens* adds what the tokenizer puts around a text, as `generate` does, unless it is false; a
        conversation has what its template says. With *return_token_texts* each token comes as text as well.
        """
        request = requests.tokenize_request(
            source, prompt, add_special_tokens=add_special_tokens, return_token_texts=return_token_texts, **chat
        )
        return await self._connection.unary(self._engines.Tokenize, request, timeout)

    async def detokenize(
        self,
        source: str,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool = False,
        timeout: float | None = None,
    ) -> str:
        """Make text of token ids."""
        request = requests.detokenize_request(source, token_ids, skip_special_tokens=skip_special_tokens)
        return (await self._connection.unary(self._engines.Detokenize, request, timeout)).text

    async def release(self, lease: str, *, timeout: float | None = None) -> engine_pb2.Engine:
        """End a lease and return what became of its engine; this takes as long as the engine takes to stop.

        If the daemon was upgraded meanwhile, the engine may be gone with the earlier program. It comes without a
        state then, and without a name unless the daemon gave it; its events tell what was given back.
        """
        request = pb.ReleaseRequest(lease=requests.lease_name(lease))
        try:
            return (await self._connection.unary(self._engines.Release, request, timeout)).engine
        except VllmdError as error:
            return gone_before(error, "LEASE_NOT_FOUND")

    async def renew(self, lease: str, ttl: Seconds | None = None) -> engine_pb2.Lease:
        """Extend a lease from now, by *ttl* or by the length that it has."""
        request = pb.RenewLeaseRequest(lease=requests.lease_name(lease), ttl=duration(ttl))
        return (await self._connection.unary(self._engines.RenewLease, request)).lease

    async def engines(self, *, timeout: float | None = None) -> list[engine_pb2.Engine]:
        """List all engines, the newest first; those that ended stay listed for a while."""
        found: list[engine_pb2.Engine] = []
        request = pb.ListEnginesRequest()
        while True:
            page = await self._connection.unary(self._engines.ListEngines, request, timeout)
            found.extend(page.engines)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def engine(self, name: str, *, timeout: float | None = None) -> engine_pb2.Engine:
        """Get one engine."""
        request = pb.GetEngineRequest(name=requests.engine_name(name))
        return (await self._connection.unary(self._engines.GetEngine, request, timeout)).engine

    def watch_engines(
        self, engine: str = "", *, min_interval: Seconds | None = None
    ) -> AsyncStream[pb.WatchEnginesResponse]:
        """Watch all engines, or one until it has ended: first as they are, then those that have changed, whole.

        Who reads slowly gets the latest and no backlog. What changes within *min_interval* seconds comes together.
        Default 0.1, at most 60.
        """
        engines = EngineServiceStub(self._connection.watching)
        return self._connection.stream(engines.WatchEngines, requests.watch_request(engine, min_interval))


async def _wait_for_loaded(
    stream: AsyncStream[pb.LoadModelResponse],
    on_progress: Callable[[engine_pb2.LoadProgress], Awaitable[None] | None] | None,
) -> pb.LoadedModel:
    async for response in stream:
        if response.HasField("loaded"):
            return response.loaded
        if on_progress is not None and response.HasField("progress"):
            waiting = on_progress(response.progress)
            if waiting is not None:
                await waiting
    raise broken("the daemon ended the load without a result")
