"""One load, as it is remembered."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from vllmd.planner import memory
from vllmd.planner.profile import Key, Profile
from vllmd.worker.report import EngineInfo

_LONGEST = (1 << 31) - 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the last load under a key took."""

    key: Key
    profile: Profile
    model: str
    """As the client named it: a hub id or a directory."""
    load_count: int = 1
    """How many loads there were; the figures are the last one's."""

    @property
    def id(self) -> tuple[Key, str]:
        """What there is one record of: loads by different versions of vLLM are apart."""
        return self.key, self.profile.vllm_version

    @property
    def engine_args(self) -> dict[str, Any]:
        """The engine arguments that matter."""
        found: dict[str, Any] = json.loads(self.key.settings)
        return found


def profile_of(info: EngineInfo, peak_bytes: int | None, now: float) -> Profile | None:
    """Make a profile of what an engine reports; `None` if it says too little to plan by.

    Args:
        info: the engine's report.
        peak_bytes: the most that NVML saw its processes hold on one GPU.
        now: seconds since the epoch.
    """
    found = info.measured
    if found is None or found.weights_bytes is None or found.activation_bytes is None:
        return None
    return Profile(
        vllm_version=info.vllm_version,
        weights_bytes=found.weights_bytes,
        activation_bytes=found.activation_bytes,
        other_bytes=memory.OTHER_BYTES if found.other_bytes is None else found.other_bytes,
        graphs_bytes=found.graphs_bytes,
        kv_cache_bytes=found.kv_cache_bytes,
        kv_cache_tokens=info.kv_cache_tokens,
        max_model_len=info.max_model_len if 0 < info.max_model_len <= _LONGEST else None,
        peak_bytes=peak_bytes,
        recorded=now,
    )
