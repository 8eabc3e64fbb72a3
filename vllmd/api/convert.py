"""From the daemon's values to the protos, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import duration_pb2, json_format, struct_pb2, timestamp_pb2

from vllmd.api import codes
from vllmd.engines import reclaim
from vllmd.engines.diagnosis import Failure
from vllmd.engines.progress import LoadProgress
from vllmd.engines.state import State, Transition
from vllmd.planner.choice import Choice, Source
from vllmd.planner.memory import GpuMemory
from vllmd.planner.secrecy import visible
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.leases import Lease
from vllmd.v1 import engine_pb2, generation_pb2
from vllmd.worker.report import Measured


def source(word: Source) -> engine_pb2.EngineArg.Source.ValueType:
    """Convert who decided an argument's value."""
    return engine_pb2.EngineArg.Source.Value(f"SOURCE_{word.upper().replace(' ', '_')}")


def duration(seconds: float) -> duration_pb2.Duration:
    """Convert seconds."""
    nanos = round(seconds * 1e9)
    return duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


def timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """Convert seconds since the epoch."""
    nanos = round(seconds * 1e9)
    return timestamp_pb2.Timestamp(seconds=nanos // 10**9, nanos=nanos % 10**9)


def finish_reason(reason: str) -> generation_pb2.FinishReason.ValueType:
    """Convert vLLM's word for why a generation ended."""
    match reason:
        case "stop":
            return generation_pb2.FINISH_REASON_STOP
        case "length":
            return generation_pb2.FINISH_REASON_LENGTH
        case _:
            return generation_pb2.FINISH_REASON_ABORT


def progress(value: LoadProgress, elapsed: float) -> engine_pb2.LoadProgress:
    """Convert the progress of a start."""
    return engine_pb2.LoadProgress(
        phase=engine_pb2.LoadProgress.Phase.ValueType(value.phase),
        weights_fraction=value.weights_fraction,
        elapsed=duration(elapsed),
        message=value.message,
    )


def lease(value: Lease, wall_minus_monotonic: float) -> engine_pb2.Lease:
    """Convert a lease; its expiry is on the monotonic clock."""
    result = engine_pb2.Lease(name=f"leases/{value.id}", engine=f"engines/{value.engine_id}")
    if value.ttl is not None and value.expires is not None:
        result.ttl.CopyFrom(duration(value.ttl))
        result.expire_time.CopyFrom(timestamp(value.expires + wall_minus_monotonic))
    return result


def engine(entry: Entry, lease_count: int, now: float, brief: bool = False) -> engine_pb2.Engine:
    """Convert an engine as it is now, in seconds since the epoch; *brief* leaves lines of its log out, for lists."""
    supervisor = entry.supervisor
    choices = supervisor.plan.choices if supervisor.plan is not None else ()
    result = engine_pb2.Engine(
        name=f"engines/{supervisor.id}",
        model=entry.wish.model,
        revision=entry.wish.revision,
        state=state(supervisor.state),
        requested_args=_struct(visible(entry.wish.engine_args)),
        effective_args=[argument(choice) for choice in choices],
        gpus=[f"gpus/{gpu.uuid}" for gpu in supervisor.plan.gpus] if supervisor.plan is not None else [],
        pid=supervisor.pid or 0,
        lease_count=lease_count,
        running_count=entry.using,
        generated_token_count=entry.generated_tokens,
        tokens_per_second=entry.tokens_per_second(),
        create_time=timestamp(supervisor.created),
        transitions=[_transition(item) for item in supervisor.life.story],
        restart_count=len(supervisor.restarted),
        adopted=supervisor.adopted,
        use_case=use_case(entry.wish.use_case),
        lora_adapters=[engine_pb2.LoraAdapter(name=name, path=path) for name, path in entry.wish.lora.items()],
    )
    if supervisor.plan is not None and supervisor.plan.memory is not None:
        result.planned_memory.CopyFrom(planned_memory(supervisor.plan.memory))
    if supervisor.next_start is not None:
        result.next_start_time.CopyFrom(timestamp(supervisor.next_start))
    if supervisor.state in (State.PENDING, State.STARTING, State.BACKOFF):
        result.progress.CopyFrom(progress(supervisor.progress, now - supervisor.created))
    if supervisor.ready is not None:
        result.ready_time.CopyFrom(timestamp(supervisor.ready))
    if (info := supervisor.info) is not None:
        result.report.vllm_version = info.vllm_version
        result.report.max_model_len = info.max_model_len
        result.report.dtype = info.dtype
        result.report.runner_type = info.runner_type
        if info.kv_cache_tokens is not None:
            result.report.kv_cache_tokens = info.kv_cache_tokens
        if (measured := measured_memory(info.measured)) is not None:
            result.report.measured_memory.CopyFrom(measured)
        if supervisor.ready is not None and supervisor.spawned is not None:
            result.report.load_duration.CopyFrom(duration(supervisor.ready - supervisor.spawned))
    if supervisor.failure is not None:
        result.failure.CopyFrom(_failure(supervisor.failure))
        if brief:
            del result.failure.log_lines[:]
    if supervisor.report is not None:
        result.reclaim.CopyFrom(reclaim_report(supervisor.report))
    return result


def planned_memory(value: GpuMemory) -> engine_pb2.GpuMemory:
    """Convert what a plan reckons with."""
    return engine_pb2.GpuMemory(
        total_bytes=value.total,
        weights_bytes=value.weights,
        kv_cache_bytes=value.kv_cache,
        activation_bytes=value.activation,
        graphs_bytes=value.graphs,
        other_bytes=value.other,
        held_bytes=value.held,
    )


def use_case(name: str) -> engine_pb2.UseCase.ValueType:
    """Convert a use case; of an engine that was taken over it may be one that only a later daemon knows."""
    known = engine_pb2.UseCase.DESCRIPTOR.values_by_name.get(f"USE_CASE_{name.upper()}")
    return engine_pb2.UseCase.ValueType(known.number) if known is not None else engine_pb2.USE_CASE_UNSPECIFIED


def measured_memory(value: Measured | None) -> engine_pb2.GpuMemory | None:
    """Convert what vLLM measured; `None` if it did not say how much anything takes of a GPU."""
    if value is None:
        return None
    sizes = {
        "weights_bytes": value.weights_bytes,
        "kv_cache_bytes": value.kv_cache_bytes,
        "activation_bytes": value.activation_bytes,
        "graphs_bytes": value.graphs_bytes,
        "other_bytes": value.other_bytes,
    }
    return engine_pb2.GpuMemory(**{name: size or 0 for name, size in sizes.items()}) if any(sizes.values()) else None


def state(value: State) -> engine_pb2.Engine.State.ValueType:
    """Convert an engine's state."""
    return engine_pb2.Engine.State.Value(f"STATE_{value.value}")


def argument(choice: Choice) -> engine_pb2.EngineArg:
    """Convert one engine argument; what is secret of it is not shown."""
    value = struct_pb2.Value()
    json_format.ParseDict(visible({choice.name: choice.value})[choice.name], value)
    return engine_pb2.EngineArg(name=choice.name, value=value, source=source(choice.source), reason=choice.reason)


def _struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    result = struct_pb2.Struct()
    result.update(dict(values))
    return result


def _transition(value: Transition) -> engine_pb2.Transition:
    return engine_pb2.Transition(
        time=timestamp(value.time), old_state=state(value.old), new_state=state(value.new), reason=value.reason
    )


def _failure(value: Failure) -> engine_pb2.Failure:
    return engine_pb2.Failure(
        code=codes.of_reason(value.reason),
        reason=value.reason,
        message=value.message,
        metadata=dict(value.metadata),
        log_lines=list(value.log_lines),
    )


def reclaim_report(value: reclaim.Report) -> engine_pb2.ReclaimReport:
    """Convert the report of a reclaim."""
    result = engine_pb2.ReclaimReport(
        verified=value.verified,
        summary=value.summary,
        pids=value.pids,
        killed_count=value.killed,
        gpus=_gpu_reclaims(value.gpus),
        removed_paths=value.removed,
        exit_duration=duration(value.exit_seconds),
        memory_duration=duration(value.memory_seconds),
    )
    if value.shutdown_seconds is not None:
        result.shutdown_duration.CopyFrom(duration(value.shutdown_seconds))
    return result


def _gpu_reclaims(values: Iterable[reclaim.GpuReclaim]) -> list[engine_pb2.GpuReclaim]:
    return [
        engine_pb2.GpuReclaim(
            gpu=f"gpus/{item.uuid}", used_bytes_before=item.used_bytes_before, used_bytes_after=item.used_bytes_after
        )
        for item in values
    ]
