"""`EngineService`: models, leases and generation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from vllmd.api import callers, convert, parse
from vllmd.api.status import raising, streaming
from vllmd.engines.streams import Chunk, Stream
from vllmd.errors import InvalidRequest
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.leases import Lease
from vllmd.scheduler.scheduler import Scheduler
from vllmd.v1 import engine_pb2, generation_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_service_pb2_grpc import EngineServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]

_PROGRESS_SECONDS = 1.0
_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000


class EngineService(EngineServiceServicer):
    """Serves clients."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    @streaming
    async def LoadModel(self, request: pb.LoadModelRequest, context: Context) -> AsyncIterator[pb.LoadModelResponse]:
        """Report progress, then the lease; with `hold`, keep that until the client goes."""
        wish = parse.wish(request)
        callers.check_model(lambda: wish.model)
        ttl = parse.ttl(request.lease_ttl, request.HasField("lease_ttl"))
        await self._scheduler.admission.look_for(wish)
        with self._scheduler.loading(wish) as entry:
            reused = entry.supervisor.ready is not None
            sent = None
            while not await self._scheduler.until_ready(entry, _PROGRESS_SECONDS):
                news = convert.progress(entry.supervisor.progress, time.time() - entry.supervisor.created)
                # Changes at once, the clock alone once a second: fast starts bring many changes a second.
                if sent is None or (news.phase, news.message) != (sent.phase, sent.message) or _older(sent, news):
                    sent = news
                    yield pb.LoadModelResponse(progress=news)
            lease = self._scheduler.grant(entry, ttl, request.hold)
        delivered = False
        try:
            # Before its client hears of it, so that a daemon that dies next does not take the lease along.
            await self._scheduler.journal.save()
            yield pb.LoadModelResponse(
                loaded=pb.LoadedModel(lease=self._lease(lease), engine=self._engine(entry), reused=reused)
            )
            delivered = True
            if request.hold:
                await self._hold(entry, lease)
        finally:
            # A lease that its client never heard of would keep the engine loaded for nobody.
            unwanted = request.hold or not delivered
            if unwanted and self._scheduler.leases.get(lease.id) is not None:
                self._scheduler.release(lease.id)

    async def _hold(self, entry: Entry, lease: Lease) -> None:
        """Wait until the lease ends without the client: the engine died, or somebody released it."""
        while self._scheduler.leases.get(lease.id) is not None:
            await entry.supervisor.changes.wait(_PROGRESS_SECONDS)
            self._scheduler.refuse_if_upgrading()
        if entry.supervisor.state.ended:
            raise entry.supervisor.error()

    @raising
    async def Generate(self, request: pb.GenerateRequest, context: Context) -> None:  # type: ignore[override]
        """Stream tokens; a cancelled call aborts the request in the engine.

        It writes rather than yields: each generator on the way would be woken for each token.
        """
        begun = time.monotonic()
        if bool(request.lease) == bool(request.engine):
            raise InvalidRequest("INVALID_FIELD", "Give either a lease or an engine.", field="lease")
        lease_id = parse.id_of(request.lease, "leases") if request.lease else ""
        engine_id = parse.id_of(request.engine, "engines") if request.engine else ""
        prompt = parse.prompt(request)
        params = parse.sampling_params(request.sampling_params)
        callers.check_model(lambda: self._model_of(lease_id, engine_id))
        with callers.counted(), self._scheduler.generating(lease_id, engine_id, prompt, params) as stream:
            first: float | None = None
            while True:
                chunk = await stream.next()
                first = first or time.monotonic() - begun
                if chunk.finish_reason is not None:
                    await context.write(_last(stream, chunk, first, begun))
                    return
                await context.write(pb.GenerateResponse(text=chunk.text, token_ids=chunk.token_ids))

    @raising
    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        """End a lease, and wait for the engine if that ends it."""
        entry = self._scheduler.release(parse.id_of(request.lease, "leases"))
        await self._scheduler.journal.save()
        await self._scheduler.settled(entry)
        return pb.ReleaseResponse(engine=self._engine(entry))

    @raising
    async def RenewLease(self, request: pb.RenewLeaseRequest, context: Context) -> pb.RenewLeaseResponse:
        """Extend a lease."""
        ttl = parse.ttl(request.ttl, request.HasField("ttl"))
        lease = self._scheduler.renew(parse.id_of(request.lease, "leases"), ttl)
        return pb.RenewLeaseResponse(lease=self._lease(lease))

    @raising
    async def ListEngines(self, request: pb.ListEnginesRequest, context: Context) -> pb.ListEnginesResponse:
        """List engines by pages; a page's token is the id of its last engine."""
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            raise InvalidRequest("INVALID_FIELD", f"page_size is 0 to {_LARGEST_PAGE}.", field="page_size")
        entries = self._scheduler.engines.entries()
        if request.page_token:
            ids = [entry.supervisor.id for entry in entries]
            if request.page_token not in ids:
                raise InvalidRequest(
                    "INVALID_FIELD", "page_token has expired: list from the start.", field="page_token"
                )
            entries = entries[ids.index(request.page_token) + 1 :]
        page = entries[: request.page_size or _DEFAULT_PAGE]
        more = len(page) < len(entries)
        return pb.ListEnginesResponse(
            engines=[self._engine(entry, brief=True) for entry in page],
            next_page_token=page[-1].supervisor.id if more else "",
        )

    @raising
    async def GetEngine(self, request: pb.GetEngineRequest, context: Context) -> pb.GetEngineResponse:
        """Get one engine."""
        entry = self._scheduler.engines.get(parse.id_of(request.name, "engines"))
        return pb.GetEngineResponse(engine=self._engine(entry))

    def _model_of(self, lease_id: str, engine_id: str) -> str:
        return self._scheduler.engines.get(
            self._scheduler.lease(lease_id).engine_id if lease_id else engine_id
        ).wish.model

    def _engine(self, entry: Entry, brief: bool = False) -> engine_pb2.Engine:
        count = self._scheduler.leases.count(entry.supervisor.id)
        return convert.engine(entry, count, time.time(), brief or not callers.may_read_logs())

    def _lease(self, lease: Lease) -> engine_pb2.Lease:
        return convert.lease(lease, time.time() - time.monotonic())


def _older(sent: engine_pb2.LoadProgress, news: engine_pb2.LoadProgress) -> bool:
    return (news.elapsed.seconds, news.elapsed.nanos) >= (sent.elapsed.seconds + 1, sent.elapsed.nanos)


def _last(stream: Stream, chunk: Chunk, first: float, begun: float) -> pb.GenerateResponse:
    return pb.GenerateResponse(
        text=chunk.text,
        token_ids=chunk.token_ids,
        finish_reason=convert.finish_reason(chunk.finish_reason or ""),
        stop_reason="" if chunk.stop_reason is None else str(chunk.stop_reason),
        usage=generation_pb2.Usage(
            prompt_tokens=stream.prompt_tokens,
            completion_tokens=stream.completion_tokens,
            cached_tokens=stream.cached_tokens,
        ),
        timings=generation_pb2.Timings(
            time_to_first_token=convert.duration(first), total=convert.duration(time.monotonic() - begun)
        ),
    )
