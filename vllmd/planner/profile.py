"""What an earlier load of the same model with the same settings really took."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

_OF_NO_WEIGHT = frozenset(
    {
        "disable_log_stats", "generation_config", "gpu_memory_utilization", "kv_cache_memory_bytes", "max_logprobs",
        "max_model_len", "max_num_queued_reqs", "max_num_queued_tokens", "override_generation_config", "revision",
        "scheduling_policy", "seed", "stream_interval", "tokenizer_mode", "tokenizer_revision",
    }
)  # fmt: skip
"""Arguments that change nothing of what a profile holds: the KV cache is reckoned from the rest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What a load has to have in common with another for both to take the same."""

    fingerprint: str
    """Of the model's files."""
    product: str
    """NVML's name of the GPUs."""
    settings: str
    """Engine arguments that matter, as canonical JSON."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one load took on its fullest GPU, in bytes. Unknown is `None`."""

    vllm_version: str
    weights_bytes: int
    activation_bytes: int
    """Peak of the forward pass that vLLM made to measure it."""
    other_bytes: int
    """Of CUDA and its libraries, beyond what PyTorch allocates."""
    graphs_bytes: int | None = None
    """CUDA graphs, which come on top of `gpu_memory_utilization`."""
    kv_cache_bytes: int | None = None
    kv_cache_tokens: int | None = None
    max_model_len: int | None = None
    peak_bytes: int | None = None
    """Most that NVML saw the engine's processes hold."""
    recorded: float = 0.0
    """When, in seconds since the epoch."""

    def is_possible_on(self, total_bytes: int) -> bool:
        """Tell whether a load can have taken this of a GPU of so many bytes, and if not it is no use to plans.

        They would refuse such a load for ever, and with that what would correct the profile.
        """
        counted = self.weights_bytes + self.activation_bytes + self.other_bytes
        highest = max(counted, (self.graphs_bytes or 0) + self.weights_bytes, self.peak_bytes or 0)
        return self.weights_bytes > 0 and highest <= total_bytes


Lookup = Callable[[Key], Profile | None]


def nothing_known(_: Key) -> None:
    """Look nothing up: no load has been seen yet."""


def key(fingerprint: str, product: str, engine_args: Mapping[str, Any]) -> Key:
    """Make the key of a load from its effective engine arguments."""
    matter = {name: value for name, value in engine_args.items() if name not in _OF_NO_WEIGHT}
    return Key(fingerprint, product, json.dumps(matter, sort_keys=True, default=str))
