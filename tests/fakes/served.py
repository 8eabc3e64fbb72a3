"""The daemon's gRPC server on a Unix socket, in this process, over a `Host`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import struct_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tests.fakes.host import QUICK, Host
from tests.fakes.rules import live
from vllmd.api.access import Role
from vllmd.api.doors import Door
from vllmd.api.engine_service import EngineService
from vllmd.api.host_service import HostService
from vllmd.api.server import Server
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub
from vllmd.v1.host_service_pb2_grpc import HostServiceStub
from vllmd.watchdog.watchdog import Watchdog

if TYPE_CHECKING:
    from vllmd.v1.engine_service_pb2_grpc import EngineServiceAsyncStub
    from vllmd.v1.host_service_pb2_grpc import HostServiceAsyncStub


@dataclasses.dataclass(frozen=True)
class Served:
    """A server and a client's end of it."""

    server: Server
    channel: grpc.aio.Channel
    engines: EngineServiceAsyncStub
    host: HostServiceAsyncStub

    async def load(self, model: str = "fake/model", **engine_args: Any) -> pb.LoadedModel:
        """Load a model to the end."""
        loaded = [response.loaded async for response in self.engines.LoadModel(request(model, **engine_args))]
        return loaded[-1]


def request(model: str = "fake/model", **engine_args: Any) -> pb.LoadModelRequest:
    """Ask for a fake engine that is loaded at once, unless *engine_args* say otherwise."""
    args = struct_pb2.Struct()
    args.update(QUICK | engine_args)
    return pb.LoadModelRequest(model=model, engine_args=args)


async def loaded_by(call: grpc.aio.UnaryStreamCall[Any, pb.LoadModelResponse]) -> pb.LoadedModel:
    """Read a load until the model is loaded; with `hold` the call goes on."""
    while True:
        response = await call.read()
        assert isinstance(response, pb.LoadModelResponse)
        if response.HasField("loaded"):
            return response.loaded


@contextlib.asynccontextmanager
async def connected(socket: Path, *options: tuple[str, int]) -> AsyncIterator[grpc.aio.Channel]:
    """Connect to a server's socket, over a connection that no other channel shares."""
    alone = ("grpc.use_local_subchannel_pool", 1)
    async with grpc.aio.insecure_channel(f"unix:{socket}", [alone, *options]) as channel:
        yield channel


@contextlib.asynccontextmanager
async def serving(host: Host) -> AsyncIterator[Served]:
    """Serve a host's scheduler."""
    watchdog = watchdog_of(host)
    server = Server(EngineService(host.scheduler), host_service_of(host, watchdog))
    await server.start([Door(path=host.directory / "s", role=Role.OPERATOR, mode=0o600)])
    try:
        async with connected(host.directory / "s") as channel:
            yield Served(server, channel, EngineServiceStub(channel), HostServiceStub(channel))
    finally:
        await server.stop(0)
        watchdog.close()


def host_service_of(host: Host, watchdog: Watchdog) -> HostService:
    """Make the service of a daemon of some version."""
    return HostService(
        host.scheduler,
        host.monitor,
        watchdog,
        host.ground.events,
        host.quarantines,
        host.ground.losses,
        host.ground.profiles,
        version="1.2.3",
        containment="session",
        engine_python="/opt/python",
    )


def watchdog_of(host: Host) -> Watchdog:
    """Make a watchdog that looks only when it is asked to."""
    return Watchdog(
        monitor=host.monitor,
        events=host.ground.events,
        quarantines=host.quarantines,
        root=host.ground.root,
        containment=host.ground.containment,
        live=live(watchdog_interval=3600.0, reclaim_timeout=5.0),
        living=host.scheduler.living,
        busy=host.scheduler.engines.busy_gpus,
        looked=host.ground.losses.observe,
        weighed=host.ground.peaks.observe,
    )


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """Take the status that an error brought."""
    assert isinstance(error, grpc.aio.AioRpcError | grpc.Call)
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None, error
    return status


def details_of(status: status_pb2.Status) -> dict[str, Message]:
    """Unpack the details of a status, by the names of their types."""
    types = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
        error_details_pb2.DebugInfo,
        error_details_pb2.BadRequest,
    )
    found: dict[str, Message] = {}
    for detail in status.details:
        kind = next(kind for kind in types if detail.Is(kind.DESCRIPTOR))
        assert kind.__name__ not in found
        found[kind.__name__] = message = kind()
        detail.Unpack(message)
    return found


def reason_of(error: grpc.RpcError) -> str:
    """Take the reason out of an error."""
    info: Any = details_of(status_of(error))["ErrorInfo"]
    assert info.domain == "vllmd"
    return str(info.reason)
