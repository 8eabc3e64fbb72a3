"""From what loads took to the protos, and nothing else."""

from __future__ import annotations

from vllmd.api import convert
from vllmd.planner.secrecy import visible
from vllmd.profiles.record import Record
from vllmd.v1 import engine_pb2


def profile(value: Record) -> engine_pb2.LoadProfile:
    """Convert what was recorded of loads under one key."""
    took = value.profile
    result = engine_pb2.LoadProfile(
        model=value.model,
        fingerprint=value.key.fingerprint,
        product=value.key.product,
        vllm_version=took.vllm_version,
        memory=engine_pb2.GpuMemory(
            weights_bytes=took.weights_bytes,
            kv_cache_bytes=took.kv_cache_bytes or 0,
            activation_bytes=took.activation_bytes,
            graphs_bytes=took.graphs_bytes or 0,
            other_bytes=took.other_bytes,
        ),
        max_model_len=took.max_model_len or 0,
        record_time=convert.timestamp(took.recorded),
        load_count=value.load_count,
        kv_cache_tokens=took.kv_cache_tokens,
        peak_bytes=took.peak_bytes,
    )
    result.engine_args.update(visible(value.engine_args))
    return result
