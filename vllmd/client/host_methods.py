"""What operators can ask a daemon for."""

from __future__ import annotations

from vllmd.client import requests
from vllmd.client.answers import gone_before
from vllmd.client.connection import Connection, Stream
from vllmd.client.errors import VllmdError
from vllmd.client.event_stream import EventStream
from vllmd.client.values import made
from vllmd.v1 import engine_pb2, host_service_pb2
from vllmd.v1.host_service_pb2_grpc import HostServiceStub


class HostMethods:
    """The part of `Client` that is about the whole host."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._host = HostServiceStub(connection.channel)

    def status(self, *, timeout: float | None = None) -> host_service_pb2.GetStatusResponse:
        """Get the host, its GPUs and its engines at one moment."""
        return self._connection.unary(self._host.GetStatus, host_service_pb2.GetStatusRequest(), timeout)

    def gpus(self, *, timeout: float | None = None) -> host_service_pb2.ListGpusResponse:
        """List the GPUs and how they are connected."""
        return self._connection.unary(self._host.ListGpus, host_service_pb2.ListGpusRequest(), timeout)

    def stop(self, engine: str, *, force: bool = False, timeout: float | None = None) -> engine_pb2.Engine:
        """Stop an engine whatever leases it has; `reclaim` of the result says what was given back.

        If the daemon was upgraded meanwhile, it may come without a state, as from `release`.
        """
        request = made(host_service_pb2.StopEngineRequest, name=requests.engine_name(engine), force=force)
        try:
            return self._connection.unary(self._host.StopEngine, request, timeout).engine
        except VllmdError as error:
            return gone_before(error, "ENGINE_NOT_FOUND", request.name)

    def gpu_processes(self, *, timeout: float | None = None) -> host_service_pb2.ListGpuProcessesResponse:
        """List the processes that hold GPU memory or are called like vLLM's, each with whose it is and why."""
        request = host_service_pb2.ListGpuProcessesRequest()
        return self._connection.unary(self._host.ListGpuProcesses, request, timeout)

    def reclaim(
        self, *, confirmed: bool = False, pid: int | None = None, timeout: float | None = None
    ) -> host_service_pb2.ReclaimResponse:
        """Show what a reclaim would kill, or with *confirmed* kill it and return what that gave back.

        With *pid* only the tree that this process is in, else all that nobody answers for.
        """
        request = made(host_service_pb2.ReclaimRequest, confirmed=confirmed, pid=pid or 0)
        return self._connection.unary(self._host.Reclaim, request, timeout, once=confirmed)

    def profiles(self, model: str = "", *, timeout: float | None = None) -> list[engine_pb2.LoadProfile]:
        """List what earlier loads really took, of one model or of all, the newest first."""
        request = made(host_service_pb2.ListProfilesRequest, model=model)
        return list(self._connection.unary(self._host.ListProfiles, request, timeout).profiles)

    def forget_profiles(self, model: str = "", *, timeout: float | None = None) -> int:
        """Forget what earlier loads took, of one model or of all, and return how many profiles that were."""
        request = made(host_service_pb2.ForgetProfilesRequest, model=model)
        return self._connection.unary(self._host.ForgetProfiles, request, timeout, once=True).forgotten_count

    def events(self, *, last: int = 0, follow: bool = False) -> EventStream:
        """Read the last events of the daemon, at most 1000, and with *follow* go on until it stops.

        Who reads too slowly misses the oldest; `missed_count` of the stream says how many.
        """
        request = made(host_service_pb2.WatchEventsRequest, last=last, follow=follow)
        return EventStream(self._connection.stream(self._host.WatchEvents, request))

    def logs(self, engine: str, *, lines: int | None = None, follow: bool = False) -> Stream[str]:
        """Read the last *lines* of an engine's log, one by one, and with *follow* go on until it has ended.

        They come without their line ends. Default 100, at most 10,000.
        """
        request = made(host_service_pb2.TailLogsRequest, name=requests.engine_name(engine), lines=lines, follow=follow)
        return self._connection.stream(self._host.TailLogs, request).flat(lambda response: response.lines)
