"""A daemon that leaves or is full, and GPUs that nobody can use."""

from __future__ import annotations

import time

import grpc

from tests.api.scenarios.calls import Scenario, daemon, refused
from tests.fakes.fake_gpus import gpu
from tests.fakes.host import eventually
from tests.fakes.profiles import info, key
from tests.fakes.served import request
from vllmd.profiles.store import Profiles
from vllmd.scheduler.placement import MOST_PENDING
from vllmd.scheduler.scheduler import MOST_LEASES
from vllmd.v1 import host_service_pb2


async def _draining() -> grpc.aio.AioRpcError:
    async with daemon() as (host, served):
        host.scheduler.draining = True
        return await refused(served.engines.LoadModel(request()))


async def _upgrading() -> grpc.aio.AioRpcError:
    async with daemon() as (host, served):
        host.scheduler.upgrading = True
        try:
            return await refused(served.engines.LoadModel(request()))
        finally:
            host.scheduler.upgrading = False


async def _queue() -> grpc.aio.AioRpcError:
    """NVML takes its time, so that nothing starts."""
    async with daemon(gpu()) as (host, served):
        host.gpus.answering.clear()
        calls = [served.engines.LoadModel(request(f"fake/{number}")) for number in range(MOST_PENDING)]
        await eventually(lambda: len(host.scheduler.engines.entries()) == MOST_PENDING)
        error = await refused(served.engines.LoadModel(request("fake/one-more")))
        for call in calls:
            call.cancel()
        return error


async def _leases() -> grpc.aio.AioRpcError:
    async with daemon() as (host, served):
        loaded = await served.load()
        engine = loaded.engine.name.removeprefix("engines/")
        for number in range(MOST_LEASES - 1):
            host.scheduler.leases.grant(f"lease-{number}", engine, 60.0, time.monotonic())
        return await refused(served.engines.LoadModel(request()))


async def _silent_driver() -> grpc.aio.AioRpcError:
    async with daemon(gpu()) as (host, served):
        host.gpus.silence = "NVML: Driver/library version mismatch (12.570)"
        return await refused(served.engines.LoadModel(request()))


async def _quarantine() -> grpc.aio.AioRpcError:
    async with daemon(gpu(), gpu(1)) as (host, served):
        host.quarantines.put("GPU-1", "SIGKILL did not end 1 of its processes (4711)", holder="a test")
        return await refused(served.engines.LoadModel(request(tensor_parallel_size=2)))


async def _lost() -> grpc.aio.AioRpcError:
    async with daemon(gpu(), gpu(1)) as (host, served):
        host.ground.losses.observe(await host.monitor.snapshot())
        host.gpus.lose("GPU-1")
        host.ground.losses.observe(await host.monitor.snapshot())
        return await refused(served.engines.LoadModel(request(tensor_parallel_size=2)))


async def _profiles() -> grpc.aio.AioRpcError:
    async with daemon() as (host, _):
        (host.directory / "file").touch()
        profiles = Profiles(host.directory / "file" / "profiles.sqlite3")
        profiles.learn("org/model", key(), info(), None)
        async with daemon(profiles=profiles) as (_, served):
            return await refused(served.host.ForgetProfiles(host_service_pb2.ForgetProfilesRequest()))


async def _mistake() -> grpc.aio.AioRpcError:
    async with daemon(gpu()) as (host, served):
        host.gpus.broken = ZeroDivisionError("a mistake of ours")
        try:
            return await refused(served.host.GetStatus(host_service_pb2.GetStatusRequest()))
        finally:
            host.gpus.broken = None


SCENARIOS: dict[str, Scenario] = {
    "DRAINING": _draining,
    "UPGRADING": _upgrading,
    "QUEUE_FULL": _queue,
    "TOO_MANY_LEASES": _leases,
    "NVML_UNAVAILABLE": _silent_driver,
    "GPU_QUARANTINED": _quarantine,
    "GPU_LOST": _lost,
    "PROFILES_NOT_WRITTEN": _profiles,
    "INTERNAL": _mistake,
}
