"""Requests that are wrong, and callers who may not."""

from __future__ import annotations

import os
from pathlib import Path

import grpc

from tests.api.scenarios.calls import (
    Scenario,
    as_user,
    calling,
    daemon,
    loading,
    planning,
    prompt,
    refused,
    vllm_says,
    with_tokens,
)
from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import Host, hanging
from tests.fakes.served import request
from vllmd.v1 import engine_pb2, engine_service_pb2, host_service_pb2

_TOKEN = (("authorization", "Bearer secret"),)


async def _not_ready() -> grpc.aio.AioRpcError:
    async with daemon() as (host, served), host.starting(hanging()) as entry:
        return await refused(served.engines.Generate(prompt(engine=f"engines/{entry.supervisor.id}")))


async def _not_an_orphan() -> grpc.aio.AioRpcError:
    async with daemon(gpu()) as (host, served):
        host.gpus.occupy("GPU-0", GIB, os.getpid())
        return await refused(served.host.Reclaim(host_service_pb2.ReclaimRequest(pid=os.getpid())))


async def _as_a_user() -> grpc.aio.AioRpcError:
    async with Host() as host, as_user(host) as stub:
        return await refused(stub.StopEngine(host_service_pb2.StopEngineRequest(name="engines/e")))


async def _without_a_token() -> grpc.aio.AioRpcError:
    async with Host() as host, with_tokens(host) as stub:
        return await refused(stub.ListEngines(engine_service_pb2.ListEnginesRequest()))


async def _with_an_unknown_token() -> grpc.aio.AioRpcError:
    metadata = (("authorization", "Bearer guessed"),)
    async with Host() as host, with_tokens(host) as stub:
        return await refused(stub.ListEngines(engine_service_pb2.ListEnginesRequest(), metadata=metadata))


async def _of_another_model() -> grpc.aio.AioRpcError:
    async with Host() as host, with_tokens(host) as stub:
        return await refused(stub.LoadModel(request("large/model"), metadata=_TOKEN))


async def _two_at_once() -> grpc.aio.AioRpcError:
    async with Host() as host, with_tokens(host) as stub:
        *_, last = [one async for one in stub.LoadModel(request("small/model"), metadata=_TOKEN)]
        first = stub.Generate(prompt(lease=last.loaded.lease.name), metadata=_TOKEN)
        await first.read()
        return await refused(stub.Generate(prompt(lease=last.loaded.lease.name), metadata=_TOKEN))


SCENARIOS: dict[str, Scenario] = {
    "INVALID_FIELD": calling("host", "TailLogs", host_service_pb2.TailLogsRequest(name="engines/e", lines=10_001)),
    "INVALID_NAME": calling("engines", "GetEngine", engine_service_pb2.GetEngineRequest(name="e-1")),
    "INVALID_USE_CASE": loading(
        engine_service_pb2.LoadModelRequest(model="m", use_case=engine_pb2.UseCase.ValueType(99))
    ),
    "INVALID_MODEL": loading(engine_service_pb2.LoadModelRequest(model="a/b/c"), backend="vllm"),
    "INVALID_REVISION": loading(engine_service_pb2.LoadModelRequest(model="a/b", revision=".."), backend="vllm"),
    "MODEL_NOT_FOUND": loading(engine_service_pb2.LoadModelRequest(model="/nonexistent/7b"), backend="vllm"),
    "MODEL_UNSUPPORTED": vllm_says("ValueError: Model architectures ['X'] are not supported for now."),
    "MODEL_NOT_ALLOWED": _of_another_model,
    "MODEL_PATH_NOT_ALLOWED": loading(request("/etc/model-7b"), model_roots=(Path("/srv/models"),)),
    "ENGINE_ARG_REFUSED": loading(request(trust_remote_code=True)),
    "INVALID_ENGINE_ARG": planning("fake/model", tensor_parallel_size=1.5),
    "LEASE_NOT_FOUND": calling("engines", "Release", engine_service_pb2.ReleaseRequest(lease="leases/none")),
    "ENGINE_NOT_FOUND": calling("engines", "GetEngine", engine_service_pb2.GetEngineRequest(name="engines/none-7b")),
    "ENGINE_NOT_READY": _not_ready,
    "PROCESS_NOT_FOUND": calling("host", "Reclaim", host_service_pb2.ReclaimRequest(pid=1)),
    "NOT_AN_ORPHAN": _not_an_orphan,
    "OPERATOR_NEEDED": _as_a_user,
    "TOKEN_MISSING": _without_a_token,
    "TOKEN_UNKNOWN": _with_an_unknown_token,
    "TOO_MANY_REQUESTS": _two_at_once,
}

UNTRIED = {
    "PROMPT_TOO_LARGE": "takes a request of many MiB that grows to 64 MiB on its way; test_link.py has it",
}
