"""What an engine reports of itself once it is ready; a part of `protocol`, by whose rules it changes."""

from __future__ import annotations

from typing import Annotated

import msgspec

Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What other peers of the daemon can be told as well."""


class Measured(msgspec.Struct, array_like=True, frozen=True):
    """What vLLM measured on its fullest GPU during the load, in bytes. What it does not say is `None`."""

    weights_bytes: Size | None = None
    activation_bytes: Size | None = None
    """Peak of the forward pass that vLLM makes to measure it."""
    other_bytes: Size | None = None
    """Of CUDA and its libraries, beyond what PyTorch allocates."""
    kv_cache_bytes: Size | None = None
    graphs_bytes: Size | None = None
    """CUDA graphs; 0 for an engine without."""
    max_num_seqs: Size | None = None
    """Sequences that the engine runs at once; with the next, what the activations depend on."""
    max_num_batched_tokens: Size | None = None


class EngineInfo(msgspec.Struct, array_like=True, frozen=True):
    """What the engine reports about itself once it is ready."""

    vllm_version: str
    max_model_len: int
    """Longest prompt plus completion, in tokens."""
    kv_cache_tokens: int | None = None
    """Tokens that the KV cache holds over all sequences; `None` if the engine does not say."""
    dtype: str = ""
    vocab_size: int | None = None
    measured: Measured | None = None
    """`None` also from workers of before, and if it could not be read."""
    runner_type: str = "generate"
    """vLLM's word: `generate` or `pooling`."""
