from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.fakes.host import Host, eventually
from tests.fakes.ports import free_port
from tests.fakes.served import host_service_of, loaded_by, reason_of, request, watchdog_of
from vllmd.api.engine_service import EngineService
from vllmd.api.port import Port
from vllmd.api.server import Server
from vllmd.api.tokens import Tokens, line
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2, host_service_pb2
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub
from vllmd.v1.host_service_pb2_grpc import HostServiceStub

TOKENS = "\n".join(
    [
        line("alice", "secret-a", "user"),
        line("ops", "secret-o", "operator"),
        line("ci", "secret-c", "user", 1, ("small/*",)),
    ]
)
ALICE, OPS, CI = ((("authorization", f"Bearer secret-{letter}"),) for letter in "aoc")


@contextlib.asynccontextmanager
async def listening(host: Host) -> AsyncIterator[tuple[Any, Any]]:
    """Serve on TCP with tokens; gives both stubs."""
    watchdog = watchdog_of(host)
    file = host.directory / "tokens.toml"
    file.write_text(TOKENS)
    server = Server(EngineService(host.scheduler), host_service_of(host, watchdog))
    address = f"127.0.0.1:{free_port()}"
    await server.start([], Port(address, tokens=Tokens(file)))
    try:
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield EngineServiceStub(channel), HostServiceStub(channel)
    finally:
        await server.stop(0)
        watchdog.close()


async def test_each_call_needs_a_token(caplog: pytest.LogCaptureFixture) -> None:
    """One that is none may be a try, and is written down; without what was tried."""
    async with Host() as host, listening(host) as (engines, _):
        await engines.ListEngines(pb.ListEnginesRequest(), metadata=ALICE)
        for metadata, reason in (((), "TOKEN_MISSING"), ((("authorization", "Bearer guessed"),), "TOKEN_UNKNOWN")):
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await engines.ListEngines(pb.ListEnginesRequest(), metadata=metadata)
            assert unknown.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert reason_of(unknown.value) == reason

    assert [record.message.partition(",")[0] for record in caplog.records if record.name == "vllmd.audit"] == [
        "ListEngines"
    ]
    assert "guessed" not in caplog.text


async def test_a_token_has_its_role(caplog: pytest.LogCaptureFixture) -> None:
    """And the audit its name."""
    async with Host() as host, listening(host) as (_, hosts):
        stop = host_service_pb2.StopEngineRequest(name="engines/none")
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await hosts.StopEngine(stop, metadata=ALICE)
        with pytest.raises(grpc.aio.AioRpcError) as missed:
            await hosts.StopEngine(stop, metadata=OPS)

        assert reason_of(denied.value) == "OPERATOR_NEEDED"
        assert reason_of(missed.value) == "ENGINE_NOT_FOUND"
        assert "with the token alice: OPERATOR_NEEDED" in caplog.text
        assert "with the token ops: NOT_FOUND after" in caplog.text
        assert "secret-" not in caplog.text


async def test_a_token_has_its_models() -> None:
    """Whether they are loaded by it or by others, and whether they are named by a lease or an engine."""
    async with Host() as host, listening(host) as (engines, _):
        theirs = await loaded_by(engines.LoadModel(request("large/model"), metadata=ALICE))
        own = await loaded_by(engines.LoadModel(request("small/model", gpu_memory_utilization=0.1), metadata=CI))
        refused = []
        for call in (
            engines.LoadModel(request("large/model"), metadata=CI),
            engines.Generate(pb.GenerateRequest(lease=theirs.lease.name, text="x"), metadata=CI),
            engines.Generate(pb.GenerateRequest(engine=theirs.engine.name, text="x"), metadata=CI),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as denied:
                await call.read()
            refused.append((denied.value.code(), reason_of(denied.value)))
        generation = pb.GenerateRequest(lease=own.lease.name, text="x")
        generation.sampling_params.max_tokens = 3
        *_, last = [answer async for answer in engines.Generate(generation, metadata=CI)]

        assert refused == [(grpc.StatusCode.PERMISSION_DENIED, "MODEL_NOT_ALLOWED")] * 3
        assert last.usage.completion_tokens == 3


async def test_a_token_has_so_many_requests() -> None:
    """One that ends, or that its client gives up, makes room for the next."""
    async with Host() as host, listening(host) as (engines, _):
        loaded = await loaded_by(
            engines.LoadModel(request("small/model", fake_tokens_per_second=100, max_model_len=4096), metadata=CI)
        )
        long = pb.GenerateRequest(lease=loaded.lease.name, text="x")
        long.sampling_params.max_tokens = 4000
        running = engines.Generate(long, metadata=CI)
        await running.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await engines.Generate(long, metadata=CI).read()
        other = engines.Generate(long, metadata=ALICE)
        await other.read()
        running.cancel()
        other.cancel()
        await eventually(lambda: not next(iter(host.scheduler.engines.entries())).using)
        again = engines.Generate(long, metadata=CI)
        await again.read()
        again.cancel()

        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(refused.value) == "TOO_MANY_REQUESTS"


async def test_a_batch_is_one_request() -> None:
    """However many prompts it has; another one at the same time is one too many."""
    async with Host() as host, listening(host) as (engines, _):
        loaded = await loaded_by(
            engines.LoadModel(request("small/model", fake_tokens_per_second=100, max_model_len=4096), metadata=CI)
        )
        batch = pb.GenerateBatchRequest(lease=loaded.lease.name, prompts=[generation_pb2.Prompt(text="x")] * 20)
        batch.sampling_params.max_tokens = 4000
        entry = next(iter(host.scheduler.engines.entries()))
        running = engines.GenerateBatch(batch, metadata=CI)
        await eventually(lambda: entry.link().running == 20)
        reasons = []
        for call in (
            engines.GenerateBatch(batch, metadata=CI),
            engines.Embed(pb.EmbedRequest(lease=loaded.lease.name, inputs=batch.prompts), metadata=CI),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            reasons.append(reason_of(refused.value))
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await engines.Tokenize(pb.TokenizeRequest(lease=loaded.lease.name, prompt=batch.prompts[0]), metadata=CI)
        running.cancel()
        await eventually(lambda: not entry.using)

        assert reasons == ["TOO_MANY_REQUESTS"] * 2
        assert reason_of(denied.value) == "TOO_MANY_REQUESTS"
