"""What scenarios are made of: each ends with the error that a client gets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import DEADLINE_SECONDS, Host
from tests.fakes.ports import free_port
from tests.fakes.served import Served, host_service_of, request, serving, watchdog_of
from vllmd.api.access import Role
from vllmd.api.doors import Door
from vllmd.api.engine_service import EngineService
from vllmd.api.port import Port
from vllmd.api.server import Server
from vllmd.api.tokens import Tokens, line
from vllmd.gpu.inventory import Gpu
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub
from vllmd.v1.host_service_pb2_grpc import HostServiceStub

Scenario = Callable[[], Awaitable[grpc.aio.AioRpcError]]
MODELS = Path(__file__).parents[2] / "data" / "models"
LLAMA_8B = str(MODELS / "llama-3.1-8b")


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """Make a call, unary or streaming, to its end; returns the error that it ends with."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            if isinstance(call, grpc.aio.UnaryStreamCall):
                while await call.read() is not grpc.aio.EOF:
                    pass
            else:
                await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("it was not refused")


@contextlib.asynccontextmanager
async def daemon(*gpus: Gpu, **ground: Any) -> AsyncIterator[tuple[Host, Served]]:
    """A host that is served."""
    async with Host(*gpus, **ground) as host, serving(host) as served:
        yield host, served


@contextlib.asynccontextmanager
async def as_user(host: Host) -> AsyncIterator[HostServiceStub]:
    """Serve a host to users alone, on a socket of their own."""
    watchdog = watchdog_of(host)
    server = Server(EngineService(host.scheduler), host_service_of(host, watchdog))
    await server.start([Door(path=host.directory / "u", role=Role.USER, mode=0o600, remedy="Come by admin.sock.")])
    try:
        async with grpc.aio.insecure_channel(f"unix:{host.directory / 'u'}") as channel:
            yield HostServiceStub(channel)
    finally:
        await server.stop(0)
        watchdog.close()


@contextlib.asynccontextmanager
async def with_tokens(host: Host) -> AsyncIterator[Any]:
    """Serve a host on TCP to whoever brings a token: `secret`, for one request at once of models `small/*`."""
    watchdog = watchdog_of(host)
    file = host.directory / "tokens.toml"
    file.write_text(line("ci", "secret", "user", 1, ("small/*",)))
    server = Server(EngineService(host.scheduler), host_service_of(host, watchdog))
    address = f"127.0.0.1:{free_port()}"
    await server.start([], Port(address, tokens=Tokens(file)))
    try:
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield EngineServiceStub(channel)
    finally:
        await server.stop(0)
        watchdog.close()


def calling(service: str, method: str, message: Any) -> Scenario:
    """Make one call; *service* is `engines` or `host`."""

    async def scenario() -> grpc.aio.AioRpcError:
        async with daemon() as (_, served):
            return await refused(getattr(getattr(served, service), method)(message))

    return scenario


def loading(message: pb.LoadModelRequest, *gpus: Gpu, **ground: Any) -> Scenario:
    """Load a model on a host with these GPUs and rules."""

    async def scenario() -> grpc.aio.AioRpcError:
        async with daemon(*gpus, **ground) as (_, served):
            return await refused(served.engines.LoadModel(message))

    return scenario


def planning(model: str, *gpus: Gpu, ground: Any = None, **engine_args: Any) -> Scenario:
    """Load a model of which more is known than its name."""
    return loading(request(model, **engine_args), *(gpus or (gpu(total=80 * GIB),)), **(ground or {}))


def vllm_says(error: str) -> Scenario:
    """Load a model, and have EngineCore log an error of vLLM's."""
    return loading(request(fake_fail_phase="profiling", fake_error=error))


def generating(message: pb.GenerateRequest, **engine_args: Any) -> Scenario:
    """Generate with a loaded model; the request gets its lease."""

    async def scenario() -> grpc.aio.AioRpcError:
        async with daemon() as (_, served):
            lease = (await served.load(**engine_args)).lease.name
            asked = pb.GenerateRequest(lease=lease)
            asked.MergeFrom(message)
            return await refused(served.engines.Generate(asked))

    return scenario


def prompt(max_tokens: int | None = None, **more: Any) -> pb.GenerateRequest:
    """A prompt of some words."""
    params = generation_pb2.SamplingParams(max_tokens=max_tokens)
    return pb.GenerateRequest(**{"text": "one two three", "sampling_params": params, **more})


def kill(pid: int | None) -> None:
    """`kill -9` a process of an engine."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
