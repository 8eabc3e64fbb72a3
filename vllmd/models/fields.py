"""Reads single values from a parsed `config.json`, which comes from anywhere: what makes no sense is unknown.

Model families call the same things by many names; the lists are those that vLLM's own converters go through
(`transformers_utils/model_arch_config_convertor.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllmd.models.defaults import BY_MODEL_TYPE

Config = Mapping[str, Any]

HEADS = ("num_attention_heads", "n_head", "num_heads")
KV_HEADS = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
HIDDEN = ("hidden_size", "n_embd", "d_model")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
INNER = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
EXPERT_INNER = ("moe_intermediate_size", "expert_ffn_hidden_size")
EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "experts_per_token", "moe_k", "moe_topk", "num_experts_per_token")
SHARED_EXPERTS = ("n_shared_experts", "moe_num_shared_experts", "num_shared_experts")
LENGTHS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip

_LARGEST = 1 << 32
"""More parameters, tokens or heads of one kind has no model; larger numbers would make others out of all proportion."""
_LONGEST_LIST = 10_000
_LONGEST_WORD = 1000
"""A letter for each layer."""

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")


def text(config: Config) -> Config:
    """Find the language model's own configuration in that of a model that also sees or hears, defaults filled in."""
    thinker = config.get("thinker_config")
    config = thinker if isinstance(thinker, Mapping) else config
    found = next((config[name] for name in _TEXT_CONFIGS if isinstance(config.get(name), Mapping)), config)
    defaults = BY_MODEL_TYPE.get(word(found, "model_type") or "")
    return found if defaults is None else {**defaults, **found}


def integer(config: Config, *names: str, least: int = 1) -> int | None:
    """Read the first of *names* that is a whole number of at least *least*, and no larger than any size there is."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST:
            return value
    return None


def integers(config: Config, name: str) -> frozenset[int]:
    """Read a list of whole numbers, such as layers; empty if it is none, or longer than any model is deep."""
    value = config.get(name)
    if not isinstance(value, list) or len(value) > _LONGEST_LIST:
        return frozenset()
    return frozenset(item for item in value if isinstance(item, int))


def number(config: Config, name: str) -> float | None:
    """Read a positive number."""
    value = config.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST:
        return float(value)
    return None


def boolean(config: Config, name: str, otherwise: bool = False) -> bool:
    """Read a switch."""
    value = config.get(name)
    return value if isinstance(value, bool) else otherwise


def word(config: Config, *names: str) -> str | None:
    """Read the first of *names* that is a text which can be shown: what is said of a model goes into messages."""
    return next((config[name] for name in names if _is_word(config.get(name))), None)


def words(config: Config, name: str) -> tuple[str, ...]:
    """Read a list of texts; empty if it is none."""
    value = config.get(name)
    return tuple(item for item in value if _is_word(item)) if isinstance(value, list) else ()


def _is_word(value: object) -> bool:
    # Printable is neither what commands a terminal nor half of a pair, which no message can hold.
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_WORD and value.isprintable()


def inner(config: Config, name: str) -> Config:
    """Read a configuration within; empty if there is none."""
    value = config.get(name)
    return value if isinstance(value, Mapping) else {}
