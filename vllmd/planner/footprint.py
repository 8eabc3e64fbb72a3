"""What one engine takes of each of its GPUs, and how much context fits into what is left."""

from __future__ import annotations

import dataclasses

from vllmd.models.layers import Kind
from vllmd.planner import memory
from vllmd.planner.choice import Draft
from vllmd.planner.kv_cache import Layout, lay_out
from vllmd.planner.memory import GpuMemory, Sizes
from vllmd.planner.precision import Precision
from vllmd.planner.profile import Profile
from vllmd.planner.weights import adapter_bytes, bytes_on_each, bytes_outside_layers

_LORA_RANK = 16
"""vLLM's default of `max_lora_rank`."""


@dataclasses.dataclass(frozen=True, slots=True)
class KvCache:
    """The KV cache of a plan."""

    bytes_per_gpu: int
    bytes_per_token: int | None
    """Of one more token over all layers and GPUs; `None` if the model's facts do not say."""
    tokens: int
    """As vLLM reports "GPU KV cache size"."""
    max_concurrency: float
    """How many requests of the longest context fit at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Footprint:
    """What is taken, apart from the cache itself."""

    weights: int
    activation: int
    other: int
    graphs_within: int
    """Set aside for CUDA graphs within the share."""
    graphs_beyond: int
    """CUDA graphs and all else that comes on top of it."""
    layout: Layout
    is_measured: bool = False
    """Whether it is what an earlier load took."""

    @property
    def taken(self) -> int:
        """What is taken within the share."""
        return self.weights + self.activation + self.other + self.graphs_within

    @property
    def has_states(self) -> bool:
        """Whether each request has a state beside keys and values."""
        return any(kind is Kind.STATE for kind, _ in self.layout.groups)

    def pool(self, budget: int) -> int:
        """Work out what is left for the KV cache of a share of so many bytes."""
        return max(0, budget - self.taken)

    def on(self, total: int, held: int, pool: int) -> GpuMemory:
        """Put it on a GPU of so many bytes, of which others hold some."""
        return GpuMemory(
            total=total,
            weights=self.weights,
            kv_cache=self._kept(pool),
            activation=self.activation,
            graphs=self.graphs_within + self.graphs_beyond,
            other=self.other,
            held=held,
        )

    def cache(self, pool: int, max_model_len: int, bytes_per_token: int | None) -> KvCache:
        """Say what a cache of so many bytes holds."""
        tokens = self.layout.capacity(pool, max_model_len)
        return KvCache(self._kept(pool), bytes_per_token, tokens, tokens / max_model_len if max_model_len else 0.0)

    def _kept(self, pool: int) -> int:
        """What becomes of a pool: nothing, where no layer keeps anything."""
        return pool if self.layout.groups else 0


def measure(draft: Draft, precision: Precision, sizes: Sizes, profile: Profile | None) -> Footprint | None:
    """Work out a footprint, or take it from an earlier load; `None` if the model's facts do not suffice."""
    facts = precision.facts
    if facts is None or precision.cache_bytes is None:
        return None
    layout = lay_out(
        facts,
        in_flight=sizes.tokens,
        value_bytes=precision.cache_bytes,
        tensor_parallel=sizes.tensor_parallel,
        pipeline_parallel=sizes.pipeline_parallel,
        prefix_caching=draft.get("enable_prefix_caching") is not False,
    )
    weights = bytes_on_each(
        facts,
        sizes.tensor_parallel,
        sizes.pipeline_parallel,
        data_parallel=sizes.data_parallel,
        plain_bytes=precision.plain_bytes,
        online=not precision.is_stored,
    )
    if weights is None or layout is None:
        return None
    offloaded = int(float(draft.get("cpu_offload_gb", 0)) * (1 << 30))
    weights -= min(offloaded, max(0, weights - bytes_outside_layers(facts, sizes.tensor_parallel)))
    if draft.get("enable_lora") is True:
        rank, slots = draft.count("max_lora_rank", _LORA_RANK) or _LORA_RANK, draft.count("max_loras", 1) or 1
        weights += adapter_bytes(facts, rank, slots, sizes.tensor_parallel)
    beside, beyond = memory.beside(facts, sizes), memory.beyond(facts, sizes)
    if profile is None:
        return Footprint(weights, beside.activation, beside.other, beside.graphs, beyond, layout)
    return Footprint(
        profile.weights_bytes,
        profile.activation_bytes,
        profile.other_bytes,
        0,  # what is set aside within the share is among the other bytes
        _on_top(profile, beyond),
        layout,
        is_measured=True,
    )


def _on_top(profile: Profile, otherwise: int) -> int:
    """Find what came on top of the share: what NVML saw beyond all that vLLM had counted."""
    if profile.peak_bytes is None or profile.kv_cache_bytes is None:
        return max(otherwise, profile.graphs_bytes or 0)
    counted = profile.weights_bytes + profile.activation_bytes + profile.other_bytes + profile.kv_cache_bytes
    return max(profile.graphs_bytes or 0, profile.peak_bytes - counted)
