"""A daemon that answers from a script: a real gRPC server on a Unix socket, with nothing behind it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf import duration_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from vllmd.v1 import engine_pb2, host_service_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_service_pb2_grpc import EngineServiceServicer, add_EngineServiceServicer_to_server
from vllmd.v1.host_service_pb2_grpc import HostServiceServicer, add_HostServiceServicer_to_server


@dataclasses.dataclass(frozen=True)
class Refusal:
    """An error as the daemon sends it: one status with exactly one ErrorInfo and what else is known."""

    reason: str
    message: str
    code: grpc.StatusCode = grpc.StatusCode.INTERNAL
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    retry_seconds: int | None = None
    log_lines: Sequence[str] = ()
    violations: Sequence[tuple[str, str]] = ()
    domain: str = "vllmd"

    def status(self) -> status_pb2.Status:
        """Build the status."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self._details():
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        return status

    def _details(self) -> Iterator[Message]:
        yield error_details_pb2.ErrorInfo(reason=self.reason, domain=self.domain, metadata=dict(self.metadata))
        if self.retry_seconds is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.seconds = self.retry_seconds
            yield retry
        if self.log_lines:
            yield error_details_pb2.DebugInfo(detail="\n".join(self.log_lines))
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for field, description in self.violations:
                bad.field_violations.add(field=field, description=description)
            yield bad


@dataclasses.dataclass(frozen=True)
class Hang:
    """A step of a script at which nothing more comes until the client has gone."""


class FakeDaemon(EngineServiceServicer, HostServiceServicer):
    """Answers every RPC with what its script of that name says, and remembers the requests.

    A script is a list of answers (of a streaming RPC: of the stream), in which a `Refusal` ends the call with an
    error and a `Hang` waits for the client to cancel.
    """

    def __init__(self, directory: Path) -> None:
        self.target = f"unix:{directory}/vllmd.sock"
        self.requests: list[Any] = []
        self.status = host_service_pb2.GetStatusResponse()
        self.engines: list[engine_pb2.Engine] = []
        self.page_size = 100
        self.load: list[Message | Refusal | Hang] = []
        self.generate: list[Message | Refusal | Hang] = []
        self.batch: list[Message | Refusal | Hang] = []
        self.embed: list[Message | Refusal | Hang] = []
        self.watch: list[Message | Refusal | Hang] = []
        self.tokenize: Message | Refusal = pb.TokenizeResponse()
        self.detokenize: Message | Refusal = pb.DetokenizeResponse()
        self.plan: Message | Refusal = pb.PlanModelResponse()
        self.logs: list[Message | Refusal | Hang] = []
        self.events: list[Message | Refusal | Hang] = []
        self.gpu_processes: Message | Refusal = host_service_pb2.ListGpuProcessesResponse()
        self.gpus: Message | Refusal = host_service_pb2.ListGpusResponse()
        self.profiles: Message | Refusal = host_service_pb2.ListProfilesResponse()
        self.forget: Message | Refusal = host_service_pb2.ForgetProfilesResponse()
        self.reclaim: Message | Refusal = host_service_pb2.ReclaimResponse()
        self.release: Message | Refusal | Hang = pb.ReleaseResponse()
        self.stop: Message | Refusal = host_service_pb2.StopEngineResponse()
        self.refusals: list[Refusal] = []
        """What the next calls of Release, StopEngine and Reclaim get in place of their answers, one each."""
        self.arrived = threading.Semaphore(0)
        """Goes up when a call has come as far as a `Hang`."""
        self.cancelled = threading.Event()
        """Set when a client has cancelled a stream before its script was at its end."""
        self._ttls: dict[str, duration_pb2.Duration] = {}
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8))
        add_EngineServiceServicer_to_server(self, self._server)
        add_HostServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.target)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End at once, as a killed daemon would for its clients."""
        self._server.stop(grace=None).wait()

    def LoadModel(self, request: pb.LoadModelRequest, context: Any) -> Iterator[Any]:
        yield from self._play(self.load, request, context)

    def Generate(self, request: pb.GenerateRequest, context: Any) -> Iterator[Any]:
        if request.engine and self.engines and request.engine not in {engine.name for engine in self.engines}:
            self._refuse(not_found("engine", request.engine), context)
        yield from self._play(self.generate, request, context)

    def GenerateBatch(self, request: pb.GenerateBatchRequest, context: Any) -> Iterator[Any]:
        yield from self._play(self.batch, request, context)

    def Embed(self, request: pb.EmbedRequest, context: Any) -> Iterator[Any]:
        yield from self._play(self.embed, request, context)

    def Tokenize(self, request: pb.TokenizeRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._answer(self.tokenize, context)

    def Detokenize(self, request: pb.DetokenizeRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._answer(self.detokenize, context)

    def PlanModel(self, request: pb.PlanModelRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._answer(self.plan, context)

    def WatchEngines(self, request: pb.WatchEnginesRequest, context: Any) -> Iterator[Any]:
        yield from self._play(self.watch, request, context)

    def Release(self, request: pb.ReleaseRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._next(self.release, context)

    def RenewLease(self, request: pb.RenewLeaseRequest, context: Any) -> Any:
        self.requests.append(request)
        ttl = self._ttls.setdefault(request.lease, duration_pb2.Duration(seconds=300))
        if request.HasField("ttl"):
            ttl.CopyFrom(request.ttl)
        return pb.RenewLeaseResponse(lease=engine_pb2.Lease(name=request.lease, ttl=ttl))

    def ListEngines(self, request: pb.ListEnginesRequest, context: Any) -> Any:
        self.requests.append(request)
        start = int(request.page_token or 0)
        end = start + self.page_size
        token = str(end) if end < len(self.engines) else ""
        return pb.ListEnginesResponse(engines=self.engines[start:end], next_page_token=token)

    def GetEngine(self, request: pb.GetEngineRequest, context: Any) -> Any:
        self.requests.append(request)
        for engine in self.engines:
            if engine.name == request.name:
                return pb.GetEngineResponse(engine=engine)
        return self._refuse(not_found("engine", request.name), context)

    def GetStatus(self, request: host_service_pb2.GetStatusRequest, context: Any) -> Any:
        self.requests.append(request)
        return self.status

    def ListGpus(self, request: host_service_pb2.ListGpusRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._answer(self.gpus, context)

    def ListProfiles(self, request: host_service_pb2.ListProfilesRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._answer(self.profiles, context)

    def ForgetProfiles(self, request: host_service_pb2.ForgetProfilesRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._answer(self.forget, context)

    def StopEngine(self, request: host_service_pb2.StopEngineRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._next(self.stop, context)

    def TailLogs(self, request: host_service_pb2.TailLogsRequest, context: Any) -> Iterator[Any]:
        yield from self._play(self.logs, request, context)

    def ListGpuProcesses(self, request: host_service_pb2.ListGpuProcessesRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._answer(self.gpu_processes, context)

    def Reclaim(self, request: host_service_pb2.ReclaimRequest, context: Any) -> Any:
        self.requests.append(request)
        return self._next(self.reclaim, context)

    def WatchEvents(self, request: host_service_pb2.WatchEventsRequest, context: Any) -> Iterator[Any]:
        yield from self._play(self.events, request, context)

    def _play(self, script: Sequence[Message | Refusal | Hang], request: Message, context: Any) -> Iterator[Message]:
        self.requests.append(request)
        played, ended = threading.Event(), threading.Event()

        def end() -> None:
            if not played.is_set():
                self.cancelled.set()
            ended.set()

        # gRPC does not resume a generator whose client has gone, so this is not for the generator to find out.
        context.add_callback(end)
        for step in script:
            if isinstance(step, Hang):
                self.arrived.release()
                ended.wait()
                return
            if isinstance(step, Refusal):
                played.set()
            yield self._answer(step, context)
        played.set()

    def _next(self, answer: Message | Refusal | Hang, context: Any) -> Message:
        if isinstance(answer, Hang):
            ended = threading.Event()
            context.add_callback(ended.set)
            self.arrived.release()
            ended.wait()
            return pb.ReleaseResponse()
        return self._answer(self.refusals.pop(0) if self.refusals else answer, context)

    def _answer(self, answer: Message | Refusal, context: Any) -> Message:
        if isinstance(answer, Refusal):
            self._refuse(answer, context)
        assert isinstance(answer, Message)
        return answer

    def _refuse(self, refusal: Refusal, context: Any) -> None:
        context.abort_with_status(rpc_status.to_status(refusal.status()))


def upgrading(retry_seconds: int = 0, **metadata: str) -> Refusal:
    """What a call gets that meets an upgrade."""
    message = "the daemon is being upgraded"
    return Refusal("UPGRADING", message, grpc.StatusCode.UNAVAILABLE, metadata, retry_seconds)


def not_found(kind: str, name: str) -> Refusal:
    """Refuse a name that is not known."""
    return Refusal(f"{kind.upper()}_NOT_FOUND", f"there is no {name}", grpc.StatusCode.NOT_FOUND, metadata={kind: name})
