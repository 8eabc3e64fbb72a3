"""What a model's `config.json` says that a plan needs. Unknown is `None`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
_KV_HEADS = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model, as far as it is known."""

    attention_heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    layers: int | None = None
    max_model_len: int | None = None
    """The longest context that the model says it was made for, in tokens."""
    weight_bytes: int | None = None
    """Size of the weight files."""
    dtype: str | None = None

    @property
    def kv_bytes_per_token(self) -> int | None:
        """KV cache of one token over all layers and GPUs, at 2 bytes a value; full attention is assumed."""
        if self.layers is None or self.kv_heads is None or self.head_dim is None:
            return None
        return self.layers * self.kv_heads * self.head_dim * 2 * 2


def read(config: Mapping[str, Any], weight_bytes: int | None = None) -> ModelFacts:
    """Read the facts from a parsed `config.json`; nested text configurations are looked into."""
    text: Mapping[str, Any] = config
    for name in _TEXT_CONFIGS:
        if isinstance(config.get(name), Mapping):
            text = config[name]
            break
    heads = _integer(text, ("num_attention_heads", "n_head", "num_heads"))
    hidden = _integer(text, ("hidden_size", "n_embd", "d_model"))
    head_dim = _integer(text, ("head_dim",))
    if head_dim is None and heads and hidden:
        head_dim = hidden // heads
    return ModelFacts(
        attention_heads=heads,
        kv_heads=_integer(text, _KV_HEADS) or heads,
        head_dim=head_dim,
        layers=_integer(text, ("num_hidden_layers", "n_layer", "num_layers")),
        max_model_len=_integer(text, _LENGTHS),
        weight_bytes=weight_bytes,
        dtype=_dtype(config, text),
    )


def _integer(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _dtype(*configs: Mapping[str, Any]) -> str | None:
    for config in configs:
        for name in ("dtype", "torch_dtype"):
            value = config.get(name)
            if isinstance(value, str):
                return value.removeprefix("torch.")
    return None
