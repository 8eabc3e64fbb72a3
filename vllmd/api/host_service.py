"""`HostService`: the host, its GPUs and the engines on them, for operators."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import psutil

from vllmd.api import convert, convert_gpus, convert_host, convert_profiles, parse
from vllmd.api.status import raising, streaming
from vllmd.engines import logs
from vllmd.engines.state import State
from vllmd.errors import InvalidRequest
from vllmd.events import KEPT, Events
from vllmd.gpu.losses import Losses
from vllmd.gpu.monitor import GpuMonitor
from vllmd.gpu.quarantine import Quarantines
from vllmd.profiles.store import Profiles
from vllmd.scheduler.scheduler import Scheduler
from vllmd.v1 import host_service_pb2 as pb
from vllmd.v1.host_service_pb2_grpc import HostServiceServicer
from vllmd.watchdog.watchdog import Watchdog

Context = grpc.aio.ServicerContext[Any, Any]

_DEFAULT_LINES = 100
_MOST_LINES = 10_000
_STARTED_AGAIN = "── vllmd: the engine was started again ──"
_FOLLOW_SECONDS = 0.25
_LINES_A_MESSAGE = 500
_EVENTS_A_MESSAGE = 200


class HostService(HostServiceServicer):
    """Serves operators."""

    def __init__(
        self,
        scheduler: Scheduler,
        monitor: GpuMonitor,
        watchdog: Watchdog,
        events: Events,
        quarantines: Quarantines,
        losses: Losses,
        profiles: Profiles,
        *,
        version: str,
        containment: str,
        engine_python: str,
    ) -> None:
        self._scheduler = scheduler
        self._monitor = monitor
        self._watchdog = watchdog
        self._events = events
        self._quarantines = quarantines
        self._losses = losses
        self._profiles = profiles
        self._version = version
        self._containment = containment
        self._engine_python = engine_python
        self._started = time.time()

    @raising
    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        """Look at everything at once."""
        inventory = await self._monitor.snapshot()
        memory = psutil.virtual_memory()
        owners = self._scheduler.owners()
        counts = self._scheduler.leases
        now = time.time()
        return pb.GetStatusResponse(
            host=pb.Host(
                hostname=socket.gethostname(),
                version=self._version,
                pid=os.getpid(),
                start_time=convert.timestamp(self._started),
                draining=self._scheduler.draining,
                containment=self._containment,
                gpu_error=inventory.error,
                gpus_unreadable=not inventory.available,
                driver_version=inventory.driver_version,
                memory_total_bytes=memory.total,
                memory_available_bytes=memory.available,
                engine_python=self._engine_python,
            ),
            gpus=[convert_gpus.gpu(gpu, owners, self._quarantines.get(gpu.uuid)) for gpu in inventory.gpus],
            lost_gpus=[convert_gpus.lost_gpu(loss) for loss in self._losses.all()],
            engines=[
                convert.engine(entry, counts.count(entry.supervisor.id), now, brief=True)
                for entry in self._scheduler.engines.entries()
                if entry.supervisor.state is not State.STOPPED
            ],
        )

    @raising
    async def ListGpus(self, request: pb.ListGpusRequest, context: Context) -> pb.ListGpusResponse:
        """List the GPUs and how they are connected."""
        inventory = await self._monitor.snapshot()
        owners = self._scheduler.owners()
        return pb.ListGpusResponse(
            gpus=[convert_gpus.gpu(gpu, owners, self._quarantines.get(gpu.uuid)) for gpu in inventory.gpus],
            links=[convert_gpus.link(link) for link in inventory.links],
            lost_gpus=[convert_gpus.lost_gpu(loss) for loss in self._losses.all()],
            driver_version=inventory.driver_version,
            cuda_version=inventory.cuda_version,
            error=inventory.error,
        )

    @raising
    async def ListProfiles(self, request: pb.ListProfilesRequest, context: Context) -> pb.ListProfilesResponse:
        """List what earlier loads took."""
        return pb.ListProfilesResponse(
            profiles=[convert_profiles.profile(record) for record in self._profiles.all(request.model)]
        )

    @raising
    async def ForgetProfiles(self, request: pb.ForgetProfilesRequest, context: Context) -> pb.ForgetProfilesResponse:
        """Forget what earlier loads took."""
        return pb.ForgetProfilesResponse(forgotten_count=await self._profiles.forget(request.model))

    @raising
    async def StopEngine(self, request: pb.StopEngineRequest, context: Context) -> pb.StopEngineResponse:
        """End an engine whoever uses it."""
        engine_id = parse.id_of(request.name, "engines")
        entry = await self._scheduler.stop(engine_id, request.force, "an operator stopped it")
        count = self._scheduler.leases.count(engine_id)
        return pb.StopEngineResponse(engine=convert.engine(entry, count, time.time()))

    @streaming
    async def TailLogs(self, request: pb.TailLogsRequest, context: Context) -> AsyncIterator[pb.TailLogsResponse]:
        """Send the last lines, then new ones until the engine has ended."""
        count = request.lines if request.HasField("lines") else _DEFAULT_LINES
        if not 0 <= count <= _MOST_LINES:
            raise parse.out_of_range("lines", _MOST_LINES)
        supervisor = self._scheduler.engines.get(parse.id_of(request.name, "engines")).supervisor
        while request.follow and supervisor.log is None and not supervisor.state.ended:
            await supervisor.changes.wait(_FOLLOW_SECONDS)  # it waits for its GPUs and has no log yet
        path = supervisor.log
        reader, lines = None, supervisor.last_lines
        if path is not None:
            end = logs.end_offset(path)
            reader, now = logs.Reader(path, end), logs.tail(path, count, end)
            # Of one that was started again people want to know what it said before.
            lines = [*lines, _STARTED_AGAIN, *now] if lines else now
        lines = lines[-count:] if count else []
        for start in range(0, len(lines), _LINES_A_MESSAGE):
            yield pb.TailLogsResponse(lines=lines[start : start + _LINES_A_MESSAGE])
        while request.follow and reader is not None and not supervisor.state.ended:
            await supervisor.changes.wait(_FOLLOW_SECONDS)
            new = reader.lines()
            if new:
                yield pb.TailLogsResponse(lines=new)

    @raising
    async def ListGpuProcesses(
        self, request: pb.ListGpuProcessesRequest, context: Context
    ) -> pb.ListGpuProcessesResponse:
        """Look at who holds GPU memory."""
        listed = await self._watchdog.processes()
        return pb.ListGpuProcessesResponse(
            processes=[convert_host.process(one) for one in listed],
            foreign_orphan_policy=self._watchdog.policy,
            grace=convert.duration(self._watchdog.grace),
        )

    @raising
    async def Reclaim(self, request: pb.ReclaimRequest, context: Context) -> pb.ReclaimResponse:
        """Show what a reclaim would kill, or do it."""
        if request.pid < 0:
            raise InvalidRequest("INVALID_FIELD", "pid is that of a process, or 0 for all.", field="pid", least=0)
        pid = request.pid or None
        listed, reports = (
            await self._watchdog.reclaim(pid) if request.confirmed else (await self._watchdog.doomed(pid), [])
        )
        return pb.ReclaimResponse(
            processes=[convert_host.process(one) for one in listed],
            reports=[convert.reclaim_report(report) for report in reports],
        )

    @streaming
    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Send the last events, then new ones until the daemon stops, those of its stop included."""
        if not 0 <= request.last <= KEPT:
            raise parse.out_of_range("last", KEPT)
        sent = max(0, self._events.last - request.last)
        # How many are missed is counted from here: what was over before anybody asked was not missed.
        _, forgotten = self._events.after(sent)
        sent += forgotten
        while True:
            leaving = self._scheduler.draining and not self._scheduler.living()
            events, missed = self._events.after(sent)
            for start in range(0, len(events), _EVENTS_A_MESSAGE):
                batch = [convert_host.event(one) for one in events[start : start + _EVENTS_A_MESSAGE]]
                yield pb.WatchEventsResponse(events=batch, missed_count=missed if start == 0 else 0)
            sent = events[-1].sequence if events else sent
            if not request.follow or leaving or self._scheduler.upgrading:
                return
            if self._events.last == sent:
                await self._events.changed.wait(_FOLLOW_SECONDS)
