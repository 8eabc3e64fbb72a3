"""From what the watchdog and the events say to the protos, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from vllmd.api import convert
from vllmd.events import Event
from vllmd.gpu.inventory import Gpu
from vllmd.gpu.losses import Loss
from vllmd.gpu.quarantine import Quarantine
from vllmd.v1 import event_pb2, gpu_pb2
from vllmd.watchdog.watchdog import Listed


def gpu(value: Gpu, owners: Mapping[int, str], quarantine: Quarantine | None) -> gpu_pb2.Gpu:
    """Convert a GPU; *owners* maps process ids to engine ids."""
    result = convert.gpu(value, owners)
    if quarantine is not None:
        result.quarantine.reason = quarantine.reason
        result.quarantine.start_time.CopyFrom(convert.timestamp(quarantine.since))
        result.quarantine.engine = _engine(quarantine.engine)
    return result


def lost_gpu(value: Loss) -> gpu_pb2.LostGpu:
    """Convert a GPU that is lost."""
    return gpu_pb2.LostGpu(
        name=f"gpus/{value.uuid}" if value.uuid else "",
        index=value.index,
        product=value.product,
        reason=value.reason,
        start_time=convert.timestamp(value.since),
    )


def process(value: Listed) -> gpu_pb2.ProcessVerdict:
    """Convert a process with the verdict on it."""
    judged = value.judged
    result = gpu_pb2.ProcessVerdict(
        pid=judged.pid,
        process_name=judged.stat.name if judged.stat is not None else "",
        uid=judged.uid,
        shares=[gpu_pb2.GpuShare(gpu=f"gpus/{share.uuid}", used_bytes=share.used_bytes) for share in judged.shares],
        verdict=gpu_pb2.ProcessVerdict.Verdict.Value(f"VERDICT_{judged.judgement.verdict}"),
        reasons=value.reasons,
        engine=_engine(judged.judgement.engine),
        doomed=value.doomed,
    )
    if judged.start_time is not None:
        result.start_time.CopyFrom(convert.timestamp(judged.start_time))
    return result


def event(value: Event) -> event_pb2.Event:
    """Convert an event."""
    return event_pb2.Event(
        sequence=value.sequence,
        time=convert.timestamp(value.time),
        kind=event_pb2.Event.Kind.Value(f"KIND_{value.kind}"),
        message=value.message,
        reasons=value.reasons,
        engine=_engine(value.engine),
        gpus=[f"gpus/{uuid}" for uuid in value.gpus],
        pids=value.pids,
        metadata=dict(value.metadata),
    )


def _engine(engine_id: str) -> str:
    return f"engines/{engine_id}" if engine_id else ""
