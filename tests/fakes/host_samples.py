"""What a daemon would say of who holds GPU memory on the host of `samples`."""

from __future__ import annotations

from typing import Any

from tests.fakes.samples import GIB, GPU, ago, reclaimed, seconds
from vllmd.v1 import engine_pb2, event_pb2, host_service_pb2
from vllmd.v1.gpu_pb2 import GpuShare, ProcessVerdict

SECOND_GPU = "gpus/GPU-b2b2b2b2-0000-0000-0000-000000000000"


def owned() -> ProcessVerdict:
    """The core of an engine that serves."""
    return ProcessVerdict(
        pid=4802,
        process_name="VLLM::EngineCor",
        uid=1000,
        start_time=ago(3_760),
        shares=[GpuShare(gpu=GPU, used_bytes=62 * GIB)],
        verdict=ProcessVerdict.VERDICT_OWNED,
        reasons=["it is of engine qwen3-8b-3f2a"],
        engine="engines/qwen3-8b-3f2a",
    )


def orphan() -> ProcessVerdict:
    """What is left of somebody's `vllm serve`, on two GPUs."""
    return ProcessVerdict(
        pid=3412991,
        process_name="VLLM::Worker_TP",
        uid=1000,
        start_time=ago(90_000),
        shares=[GpuShare(gpu=GPU, used_bytes=10 * GIB), GpuShare(gpu=SECOND_GPU, used_bytes=30 * GIB)],
        verdict=ProcessVerdict.VERDICT_FOREIGN_ORPHAN,
        reasons=[
            "it is below an orphan (pid 99, VLLM::EngineCor)",
            "its parent (pid 77, vllm) was seen alive and then dead",
        ],
        doomed=True,
    )


def suspect() -> ProcessVerdict:
    """Somebody's core that is well, as far as can be seen; its share is unknown."""
    return ProcessVerdict(
        pid=99,
        process_name="VLLM::EngineCor",
        start_time=ago(90),
        shares=[GpuShare(gpu=SECOND_GPU)],
        verdict=ProcessVerdict.VERDICT_SUSPECT,
        reasons=["its parent (pid 1, systemd) is a reaper, but pid 812 (python) holds the other end of its sockets"],
    )


def lost() -> ProcessVerdict:
    """What only NVML knows of any more."""
    return ProcessVerdict(
        pid=5,
        shares=[GpuShare(gpu="gpus/GPU-unknown", used_bytes=GIB)],
        verdict=ProcessVerdict.VERDICT_DEAD,
        reasons=["there is no such process any more, and NVML still lists it"],
    )


def gpu_processes(*processes: ProcessVerdict) -> host_service_pb2.ListGpuProcessesResponse:
    """A list of them."""
    return host_service_pb2.ListGpuProcessesResponse(
        processes=processes, foreign_orphan_policy="kill", grace=seconds(10)
    )


def reclaim(*, done: bool = True, verified: bool = True) -> host_service_pb2.ReclaimResponse:
    """What a reclaim of the orphan found, and did."""
    reports = [reclaimed(verified=verified)] if done else []
    return host_service_pb2.ReclaimResponse(processes=[orphan()], reports=reports)


def events(missed: int = 0) -> host_service_pb2.WatchEventsResponse:
    """A verdict and what came of it."""
    verdict = event_pb2.Event(
        sequence=7,
        time=ago(60),
        kind=event_pb2.Event.KIND_VERDICT,
        message="VLLM::Worker_TP (pid 3412991) is FOREIGN_ORPHAN, and was SUSPECT.",
        reasons=["its parent (pid 77, vllm) was seen alive and then dead"],
    )
    end = event_pb2.Event(
        sequence=8, time=ago(50), kind=event_pb2.Event.KIND_QUARANTINE_END, message="GPU 1 is used again."
    )
    return host_service_pb2.WatchEventsResponse(events=[verdict, end], missed_count=missed)


def profile(model: str = "Qwen/Qwen3-8B", **arguments: Any) -> engine_pb2.LoadProfile:
    """What a load on two H200 took an hour ago."""
    result = engine_pb2.LoadProfile(
        model=model,
        fingerprint="f1",
        product="NVIDIA H200",
        vllm_version="0.25.1",
        memory=engine_pb2.GpuMemory(
            weights_bytes=15 * GIB, kv_cache_bytes=40 * GIB, activation_bytes=2 * GIB, other_bytes=GIB // 4
        ),
        kv_cache_tokens=327_680,
        max_model_len=40_960,
        record_time=ago(3_600),
        load_count=2,
    )
    result.engine_args.update({"tensor_parallel_size": 2} | arguments)
    return result
