"""Messages as a daemon on a host with two GPUs would send them."""

from __future__ import annotations

import time

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from vllmd.v1 import engine_pb2, generation_pb2, gpu_pb2, host_service_pb2
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import Engine, EngineArg, LoadProgress

GIB = 2**30
GPU = "gpus/GPU-8f2c1a3b-77d0-4c1e-9a11-0123456789ab"


def seconds(value: float) -> Duration:
    """A duration."""
    return Duration(seconds=int(value), nanos=round(value % 1 * 1e9))


def ago(value: float) -> Timestamp:
    """The time so many seconds ago."""
    return Timestamp(seconds=int(time.time() - value))


def ready() -> Engine:
    """An engine that serves requests."""
    return Engine(
        name="engines/qwen3-8b-3f2a",
        model="Qwen/Qwen3-8B",
        revision="main",
        state=Engine.STATE_READY,
        gpus=[GPU],
        pid=4711,
        lease_count=2,
        running_count=3,
        generated_token_count=48213,
        tokens_per_second=412.4,
        create_time=ago(3_800),
        ready_time=ago(3_760),
        report=engine_pb2.EngineReport(
            vllm_version="0.25.1",
            max_model_len=8192,
            kv_cache_tokens=131072,
            dtype="bfloat16",
            load_duration=seconds(38.4),
        ),
        effective_args=[
            EngineArg(
                name="max_model_len",
                value=Value(number_value=8192),
                source=EngineArg.SOURCE_CLIENT,
                reason="set by the client",
            ),
            EngineArg(
                name="gpu_memory_utilization",
                value=Value(number_value=0.87),
                source=EngineArg.SOURCE_AUTO,
                reason="what is free on the GPU, less 1 GiB",
            ),
        ],
        transitions=[
            engine_pb2.Transition(
                time=ago(3_800),
                old_state=Engine.STATE_PENDING,
                new_state=Engine.STATE_STARTING,
                reason="its GPU is free",
            ),
            engine_pb2.Transition(
                time=ago(3_760),
                old_state=Engine.STATE_STARTING,
                new_state=Engine.STATE_READY,
                reason="vLLM reported ready",
            ),
        ],
    )


def loading_weights(fraction: float = 0.42) -> LoadProgress:
    """A start in the middle of its weights."""
    return LoadProgress(
        phase=LoadProgress.PHASE_LOADING_WEIGHTS,
        weights_fraction=fraction,
        elapsed=seconds(14.2),
        message="",
    )


def starting() -> Engine:
    """An engine that loads its weights."""
    return Engine(
        name="engines/llama-3.1-8b-instruct-91bc",
        model="meta-llama/Llama-3.1-8B-Instruct",
        state=Engine.STATE_STARTING,
        progress=loading_weights(),
        create_time=ago(14),
        lease_count=0,
    )


def failed() -> Engine:
    """An engine whose core was killed."""
    return Engine(
        name="engines/mistral-7b-77aa",
        model="mistralai/Mistral-7B-v0.3",
        state=Engine.STATE_FAILED,
        gpus=[GPU],
        create_time=ago(500),
        ready_time=ago(460),
        failure=engine_pb2.Failure(
            reason="ENGINE_DIED",
            message="VLLM::EngineCore (pid 4802) was killed by signal 9; load the model again",
            metadata={"pid": "4802", "signal": "9"},
            log_lines=["INFO 11-23 10:00:01 core.py:77 running", "ERROR 11-23 10:00:02 core.py:99 \x1b[1mdied\x1b[0m"],
        ),
        reclaim=reclaimed(),
    )


def reclaimed(*, verified: bool = True) -> engine_pb2.ReclaimReport:
    """What the end of an engine gave back."""
    return engine_pb2.ReclaimReport(
        verified=verified,
        summary="no process is left and NVML shows the memory back" if verified else "GPU memory did not come back",
        pids=[4711, 4802, 4803],
        killed_count=1,
        gpus=[
            engine_pb2.GpuReclaim(
                gpu=GPU, used_bytes_before=63 * GIB, used_bytes_after=GIB // 2 if verified else 60 * GIB
            )
        ],
        removed_paths=["/dev/shm/psm_1234"],
        exit_duration=seconds(1.24),
        memory_duration=seconds(0.31),
    )


def stopped(*, verified: bool = True) -> Engine:
    """An engine that was asked to end."""
    return Engine(
        name="engines/qwen3-8b-3f2a",
        model="Qwen/Qwen3-8B",
        state=Engine.STATE_STOPPED if verified else Engine.STATE_FAILED,
        reclaim=reclaimed(verified=verified),
    )


def status() -> host_service_pb2.GetStatusResponse:
    """A host with two GPUs and an engine in every kind of state."""
    return host_service_pb2.GetStatusResponse(
        host=host_service_pb2.Host(
            hostname="gpu-host-3",
            version="0.1.0",
            pid=812,
            start_time=ago(11_100),
            containment="cgroup",
            driver_version="570.86.15",
            memory_total_bytes=251 * GIB,
            memory_available_bytes=213 * GIB,
            engine_python="/opt/vllm/bin/python",
        ),
        gpus=[
            gpu_pb2.Gpu(
                name=GPU,
                index=0,
                product="NVIDIA H200",
                total_bytes=140 * GIB,
                used_bytes=63 * GIB,
                free_bytes=77 * GIB,
                utilization=0.93,
                processes=[gpu_pb2.GpuProcess(pid=4802, used_bytes=62 * GIB, engine="engines/qwen3-8b-3f2a")],
            ),
            gpu_pb2.Gpu(
                name="gpus/GPU-b2b2b2b2-0000-0000-0000-000000000000",
                index=1,
                product="NVIDIA H200",
                total_bytes=140 * GIB,
                used_bytes=138 * GIB,
                free_bytes=2 * GIB,
                processes=[gpu_pb2.GpuProcess(pid=99, used_bytes=137 * GIB)],
            ),
        ],
        engines=[starting(), failed(), ready()],
    )


def loaded(*, reused: bool = False) -> pb.LoadModelResponse:
    """The end of a load."""
    lease = engine_pb2.Lease(
        name="leases/5d41402abc4b2a76b9719d911017c592", engine="engines/qwen3-8b-3f2a", ttl=seconds(600)
    )
    return pb.LoadModelResponse(loaded=pb.LoadedModel(lease=lease, engine=ready(), reused=reused))


def progress(phase: LoadProgress.Phase.ValueType, elapsed: float, message: str = "") -> pb.LoadModelResponse:
    """A step of a load."""
    return pb.LoadModelResponse(progress=LoadProgress(phase=phase, elapsed=seconds(elapsed), message=message))


def weights(fraction: float) -> pb.LoadModelResponse:
    """A step of a load in the middle of its weights."""
    return pb.LoadModelResponse(progress=loading_weights(fraction))


def tokens() -> list[pb.GenerateResponse]:
    """A generation of four tokens."""
    return [
        pb.GenerateResponse(text="Once", token_ids=[1]),
        pb.GenerateResponse(text=" upon a", token_ids=[2, 3]),
        pb.GenerateResponse(
            text=" time",
            token_ids=[4],
            finish_reason=generation_pb2.FINISH_REASON_LENGTH,
            usage=generation_pb2.Usage(prompt_tokens=7, completion_tokens=4),
            timings=generation_pb2.Timings(time_to_first_token=seconds(0.085), total=seconds(0.385)),
        ),
    ]
