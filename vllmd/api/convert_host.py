"""From what the watchdog and the events say to the protos, and nothing else."""

from __future__ import annotations

from vllmd.api import convert
from vllmd.events import Event
from vllmd.v1 import event_pb2, gpu_pb2
from vllmd.watchdog.watchdog import Listed


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
