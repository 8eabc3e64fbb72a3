"""Engines that do not start, do not fit, or end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import grpc

from tests.api.scenarios.calls import (
    LLAMA_8B,
    Scenario,
    daemon,
    generating,
    kill,
    loading,
    planning,
    prompt,
    refused,
    vllm_says,
)
from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import HANGING, hanging, until, wish
from tests.fakes.served import request
from tests.host.running import cores_of
from vllmd import tasks
from vllmd.engines.restarts import Policy
from vllmd.engines.state import State
from vllmd.v1 import engine_service_pb2

_LATER = Policy(limit=3, first_delay_seconds=60.0)
"""An engine that fails is to be started again, and is not yet."""


async def _files_that_do_not_answer() -> grpc.aio.AioRpcError:
    """As many looks as there may be hang, as on a file system of the network whose server is away."""
    answering = threading.Event()
    hung = [tasks.spawn("hang", tasks.in_thread("a file", answering.wait, 20.0)) for _ in range(tasks.MOST_BLOCKED)]
    try:
        async with daemon(backend="vllm") as (_, served):
            return await refused(served.engines.LoadModel(engine_service_pb2.LoadModelRequest(model="/srv/model")))
    finally:
        answering.set()
        await asyncio.gather(*hung)


async def _killed_while_it_starts() -> grpc.aio.AioRpcError:
    async with daemon() as (host, served):
        call = served.engines.LoadModel(request("fake/hanging", **HANGING))
        await call.read()
        entry = host.scheduler.engines.entries()[0]
        await until(host.scheduler.engines.changed, lambda: entry.supervisor.pid is not None)
        kill(entry.supervisor.pid)
        return await refused(call)


async def _killed_while_it_serves() -> grpc.aio.AioRpcError:
    async with daemon(restarts=_LATER) as (host, served):
        lease = (await served.load()).lease.name
        call = served.engines.Generate(prompt(lease=lease))
        await call.read()
        kill(host.scheduler.engines.entries()[0].supervisor.pid)
        return await refused(call)


async def _killed_with_a_lease() -> grpc.aio.AioRpcError:
    async with daemon(restarts=_LATER) as (host, served):
        loaded = await served.load()
        entry = host.scheduler.engines.entries()[0]
        kill(entry.supervisor.pid)
        await host.state(entry, State.BACKOFF)
        return await refused(served.engines.Generate(prompt(lease=loaded.lease.name)))


async def _stopped() -> grpc.aio.AioRpcError:
    async with daemon() as (host, served):
        entry, _ = await host.load(wish())
        await host.scheduler.stop(entry.supervisor.id, True, "a test stops it")
        return await refused(served.engines.Generate(prompt(engine=f"engines/{entry.supervisor.id}")))


async def _hung() -> grpc.aio.AioRpcError:
    async with daemon(stall_timeout=0.2, restarts=_LATER) as (host, served):
        lease = (await served.load()).lease.name
        call = served.engines.Generate(prompt(lease=lease))
        await call.read()
        pid = host.scheduler.engines.entries()[0].supervisor.pid
        assert pid is not None
        os.kill(cores_of(pid)[0].pid, signal.SIGSTOP)
        return await refused(call)


async def _memory_that_stays() -> grpc.aio.AioRpcError:
    async with daemon(gpu(), reclaim_timeout=0.05) as (host, served):
        entry, _ = await host.load(wish())
        host.gpus.leak("GPU-0", GIB)
        await host.scheduler.stop(entry.supervisor.id, True, "a test kills it")
        return await refused(served.engines.Generate(prompt(engine=f"engines/{entry.supervisor.id}")))


async def _starts_too_long() -> grpc.aio.AioRpcError:
    async with daemon(load_timeout=0.3) as (_, served):
        return await refused(served.engines.LoadModel(request("fake/hanging", **hanging().engine_args)))


async def _disturbed() -> grpc.aio.AioRpcError:
    error = "AssertionError: Error in memory profiling. Initial free memory 9.0 GiB, current free memory 10.0 GiB."
    async with daemon(restarts=Policy(limit=0, first_delay_seconds=0.0)) as (_, served):
        return await refused(served.engines.LoadModel(request(fake_fail_phase="profiling", fake_error=error)))


SCENARIOS: dict[str, Scenario] = {
    "MODEL_TOO_LARGE": planning(LLAMA_8B, gpu(total=8 * GIB)),
    "KV_CACHE_TOO_SMALL": planning(LLAMA_8B, gpu(total=24 * GIB), max_model_len=131072),
    "NOT_ENOUGH_GPUS": planning("fake/model", gpu(), tensor_parallel_size=2),
    "GPU_UNSUPPORTED": vllm_says(
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. "
        "Current capability: 75."
    ),
    "INVALID_HOST_ARG": planning("fake/model", ground={"engine_args": {"max_num_seqs": "many"}}),
    "GPU_MEMORY_EXHAUSTED": planning(LLAMA_8B, gpu(total=80 * GIB, used=70 * GIB)),
    "HOST_MEMORY_EXHAUSTED": vllm_says("ValueError: Available memory on node 0 (1.0/2.0 GiB) is less than desired."),
    "DISK_FULL": vllm_says("OSError: [Errno 28] No space left on device: '/var/cache/vllmd/hub/blobs/x'"),
    "MODEL_GATED": vllm_says("GatedRepoError: 403 Client Error. Cannot access gated repo for url https://x."),
    "MODEL_UNAVAILABLE": vllm_says("OSError: We couldn't connect to 'https://huggingface.co' to load the files."),
    "FILES_UNAVAILABLE": _files_that_do_not_answer,
    "VLLM_NOT_INSTALLED": vllm_says("ModuleNotFoundError: No module named 'vllm'"),
    "SPAWN_FAILED": loading(request(), python=Path("/nonexistent/python")),
    "ENGINE_EXITED": _killed_while_it_starts,
    "ENGINE_START_FAILED": vllm_says("AssertionError: something that nobody has seen yet"),
    "PROFILING_DISTURBED": _disturbed,
    "START_TIMEOUT": _starts_too_long,
    "ENGINE_RESTARTING": _killed_with_a_lease,
    "ENGINE_STOPPED": _stopped,
    "ENGINE_DIED": _killed_while_it_serves,
    "ENGINE_STALLED": _hung,
    "RECLAIM_FAILED": _memory_that_stays,
    "GENERATION_FAILED": generating(prompt(), fake_generation_error="out of luck"),
}
