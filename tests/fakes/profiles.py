"""Records of loads, and what engines report of them."""

from __future__ import annotations

from typing import Any

from vllmd.planner.profile import Key, Profile
from vllmd.profiles.record import Record
from vllmd.worker.report import EngineInfo, Measured

GIB = 1 << 30


def key(fingerprint: str = "f1", settings: str = '{"max_num_seqs": 256, "tensor_parallel_size": 2}') -> Key:
    """The key of a load on two H100."""
    return Key(fingerprint, "NVIDIA H100 80GB HBM3", settings)


def info(version: str = "0.25.1", weights_bytes: int | None = 15 * GIB, **changes: Any) -> EngineInfo:
    """What an engine says that has measured everything, unless *changes* say otherwise."""
    sizes = {"activation_bytes": 2 * GIB, "other_bytes": GIB, "kv_cache_bytes": 40 * GIB, "graphs_bytes": GIB // 2}
    return EngineInfo(version, 8192, 327_680, "bfloat16", 1000, Measured(weights_bytes, **(sizes | changes)))


def record(model: str = "org/model", *, version: str = "0.25.1", load_count: int = 1, **changes: Any) -> Record:
    """A record of a load, by default with all that there can be."""
    sizes: dict[str, Any] = {
        "weights_bytes": 15 * GIB,
        "activation_bytes": 2 * GIB,
        "other_bytes": GIB,
        "graphs_bytes": GIB // 2,
        "kv_cache_bytes": 40 * GIB,
        "kv_cache_tokens": 327_680,
        "max_model_len": 8192,
        "peak_bytes": 59 * GIB,
        "recorded": 1_790_000_000.5,
    }
    made = changes.pop("key", key())
    profile = Profile(vllm_version=version, **(sizes | changes))
    return Record(key=made, profile=profile, model=model, load_count=load_count)
