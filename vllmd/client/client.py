"""Everything that a client of the daemon can ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from vllmd.client import requests
from vllmd.client.connection import Connection, Stream
from vllmd.client.errors import VllmdError
from vllmd.client.loaded import LoadedModel
from vllmd.client.requests import Prompt, SamplingOptions, Seconds
from vllmd.client.target import default_target, normalize
from vllmd.v1 import engine_pb2, host_service_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub
from vllmd.v1.host_service_pb2_grpc import HostServiceStub


class Client:
    """A connection to one daemon. Methods may be called from several threads; every failure is a `VllmdError`.

    *target* is a gRPC address or a socket's path; see `default_target` for what it is if you leave it out. With
    *connect_timeout* a call that finds no daemon waits so many seconds for one, such as during a restart.
    """

    def __init__(self, target: str | None = None, *, connect_timeout: float = 0.0) -> None:
        self.target = normalize(target) if target else default_target()
        self._connection = Connection(self.target, connect_timeout)
        self._engines = EngineServiceStub(self._connection.channel)
        self._host = HostServiceStub(self._connection.channel)

    def __repr__(self) -> str:
        return f"<Client {self.target}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and every call on it; leases that are not held stay."""
        self._connection.close()

    def wait_until_ready(self, timeout: float) -> None:
        """Wait for the daemon to answer; raises `DaemonUnreachable` if it does not in time."""
        self._connection.wait_until_ready(timeout)

    def load(
        self,
        model: str,
        *,
        revision: str = "",
        engine_args: Mapping[str, Any] | None = None,
        auto_config: bool = True,
        lease_ttl: Seconds | None = None,
        hold: bool = False,
        use_case: str = "",
        on_progress: Callable[[engine_pb2.LoadProgress], None] | None = None,
    ) -> LoadedModel:
        """Load a model, or share the engine that has it, and return when it is ready.

        *use_case*, such as `production`, is what the arguments that are left open are chosen for. With *hold* the lease
        lasts as long as this client. An exception out of *on_progress*, Ctrl-C included,
        cancels the load.
        """
        request = requests.load_request(
            model,
            revision=revision,
            engine_args=engine_args,
            auto_config=auto_config,
            lease_ttl=lease_ttl,
            hold=hold,
            use_case=use_case,
        )
        stream = self._connection.stream(self._engines.LoadModel, request)
        try:
            loaded = _wait_for_loaded(stream, on_progress)
            if not hold:
                # The daemon ends the stream here; were it cancelled instead, the load could look given up.
                for _ in stream:
                    pass
            return LoadedModel(self, loaded, stream)
        except BaseException:
            stream.close()
            raise

    def generate(
        self,
        source: str,
        prompt: Prompt,
        *,
        template_args: Mapping[str, Any] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Stream[pb.GenerateResponse]:
        """Generate from text, token ids or messages; closing the stream aborts the request in the engine.

        *source* is the name of a lease, which begins with `leases/`, or of an engine. *template_args* are
        variables for the chat template.
        """
        request = requests.generate_request(source, prompt, options, template_args)
        return self._connection.stream(self._engines.Generate, request)

    def release(self, lease: str, *, timeout: float | None = None) -> engine_pb2.Engine:
        """End a lease and return what became of its engine; this takes as long as the engine takes to stop.

        If the daemon was upgraded meanwhile, the engine may be gone with the earlier program. It comes without a
        state then, and without a name unless the daemon gave it; its events tell what was given back.
        """
        request = pb.ReleaseRequest(lease=requests.lease_name(lease))
        try:
            return self._connection.unary(self._engines.Release, request, timeout).engine
        except VllmdError as error:
            return _gone_before(error, "LEASE_NOT_FOUND")

    def renew(self, lease: str, ttl: Seconds | None = None) -> engine_pb2.Lease:
        """Extend a lease from now, by *ttl* or by the length that it has."""
        request = pb.RenewLeaseRequest(lease=requests.lease_name(lease), ttl=requests.duration(ttl))
        return self._connection.unary(self._engines.RenewLease, request).lease

    def engines(self, *, timeout: float | None = None) -> list[engine_pb2.Engine]:
        """List all engines, the newest first; those that ended stay listed for a while."""
        found: list[engine_pb2.Engine] = []
        request = pb.ListEnginesRequest()
        while True:
            page = self._connection.unary(self._engines.ListEngines, request, timeout)
            found.extend(page.engines)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def engine(self, name: str, *, timeout: float | None = None) -> engine_pb2.Engine:
        """Get one engine."""
        request = pb.GetEngineRequest(name=requests.engine_name(name))
        return self._connection.unary(self._engines.GetEngine, request, timeout).engine

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
        request = host_service_pb2.StopEngineRequest(name=requests.engine_name(engine), force=force)
        try:
            return self._connection.unary(self._host.StopEngine, request, timeout).engine
        except VllmdError as error:
            return _gone_before(error, "ENGINE_NOT_FOUND", request.name)

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
        request = host_service_pb2.ReclaimRequest(confirmed=confirmed, pid=pid or 0)
        return self._connection.unary(self._host.Reclaim, request, timeout, once=confirmed)

    def profiles(self, model: str = "", *, timeout: float | None = None) -> list[engine_pb2.LoadProfile]:
        """List what earlier loads really took, of one model or of all, the newest first."""
        request = host_service_pb2.ListProfilesRequest(model=model)
        return list(self._connection.unary(self._host.ListProfiles, request, timeout).profiles)

    def forget_profiles(self, model: str = "", *, timeout: float | None = None) -> int:
        """Forget what earlier loads took, of one model or of all, and return how many profiles that were."""
        request = host_service_pb2.ForgetProfilesRequest(model=model)
        return self._connection.unary(self._host.ForgetProfiles, request, timeout, once=True).forgotten_count

    def events(self, *, last: int = 0, follow: bool = False) -> Stream[host_service_pb2.WatchEventsResponse]:
        """Read the last events of the daemon, and with *follow* go on until it stops."""
        request = host_service_pb2.WatchEventsRequest(last=last, follow=follow)
        return self._connection.stream(self._host.WatchEvents, request)

    def logs(
        self, engine: str, *, lines: int | None = None, follow: bool = False
    ) -> Stream[host_service_pb2.TailLogsResponse]:
        """Read the last lines of an engine's log, and with *follow* go on until it has ended."""
        request = host_service_pb2.TailLogsRequest(name=requests.engine_name(engine), lines=lines, follow=follow)
        return self._connection.stream(self._host.TailLogs, request)


def _gone_before(error: VllmdError, reason: str, name: str = "") -> engine_pb2.Engine:
    """Take what is not there for gone by an earlier try that got through; raise *error* if there was none such."""
    if error.reason != reason or error.earlier is None:
        raise error
    engine = error.earlier.metadata.get("engine", "")
    return engine_pb2.Engine(name=name or (requests.engine_name(engine) if engine else ""))


def _wait_for_loaded(
    stream: Iterator[pb.LoadModelResponse], on_progress: Callable[[engine_pb2.LoadProgress], None] | None
) -> pb.LoadedModel:
    for response in stream:
        if response.HasField("loaded"):
            return response.loaded
        if on_progress is not None and response.HasField("progress"):
            on_progress(response.progress)
    raise VllmdError(grpc.StatusCode.INTERNAL, "INTERNAL", "the daemon ended the load without a result")
