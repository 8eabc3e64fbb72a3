"""`EngineService`: models, leases and generation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from vllmd.api import convert, parse
from vllmd.api.batch import BatchMethods
from vllmd.api.generation import GenerationMethods
from vllmd.api.inputs import InputMethods
from vllmd.api.outlook import OutlookMethods
from vllmd.api.status import raising, streaming
from vllmd.errors import InvalidRequest
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.leases import Lease
from vllmd.scheduler.scheduler import Scheduler
from vllmd.v1 import engine_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_service_pb2_grpc import EngineServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]

_PROGRESS_SECONDS = 1.0
_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000


class EngineService(  # type: ignore[misc]
    GenerationMethods, BatchMethods, InputMethods, OutlookMethods, EngineServiceServicer
):
    """Serves clients."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)

    @streaming
    async def LoadModel(self, request: pb.LoadModelRequest, context: Context) -> AsyncIterator[pb.LoadModelResponse]:
        """Report progress, then the lease; with `hold`, keep that until the client goes."""
        wish = parse.wish(request)
        self._check_wish(wish)
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
            # A lease that its client never heard of would keep the engine loaded for nobody. An upgrade ends the stream
            # and not the lease: the new program gives its client time to come back.
            unwanted = (request.hold or not delivered) and not self._scheduler.upgrading
            if unwanted and self._scheduler.leases.get(lease.id) is not None:
                self._scheduler.release(lease.id)

    async def _hold(self, entry: Entry, lease: Lease) -> None:
        """Wait until the lease ends without the client: the engine died, or somebody released it."""
        while self._scheduler.leases.get(lease.id) is not None:
            await entry.supervisor.changes.wait(_PROGRESS_SECONDS)
            self._scheduler.refuse_if_upgrading()
        if entry.supervisor.state.ended:
            raise entry.supervisor.error(to_load=True)

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
            raise parse.out_of_range("page_size", _LARGEST_PAGE)
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

    def _lease(self, lease: Lease) -> engine_pb2.Lease:
        return convert.lease(lease, time.time() - time.monotonic())


def _older(sent: engine_pb2.LoadProgress, news: engine_pb2.LoadProgress) -> bool:
    return (news.elapsed.seconds, news.elapsed.nanos) >= (sent.elapsed.seconds + 1, sent.elapsed.nanos)
