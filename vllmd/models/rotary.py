"""How rotary position embeddings are scaled, and what their tables take: sines and cosines of every position.

Read in vLLM 0.25.1's `model_executor/layers/rotary_embedding`: layers that rotate alike share one table, which each GPU
holds in full. It explains what vLLM measured beyond the parameters (`tests/data/measured`): 16 MiB of Llama 3.2 1B's
weights, 10 MiB of Qwen3 8B's. Tables of 32 bits are DeepSeek's, where FlashInfer rotates, and gpt-oss's.
"""

from __future__ import annotations

from collections.abc import Mapping

from vllmd.models import fields
from vllmd.models.fields import Config, inner, integer, number, word

_WITHOUT = frozenset(
    {
        "bert", "bloom", "gpt2", "gpt_bigcode", "gpt_neo", "jamba", "mpt", "nemotron_h", "opt", "roberta",
        "xlm-roberta",
    }
)  # fmt: skip
"""Whose positions are learned, or a bias, or none."""
_LOCAL_DIFFERS = ("rope_local_base_freq", "local_rope_theta")
"""Where layers with a window rotate otherwise than those without: a second table, never scaled."""
_UNSCALED_IN_WINDOWS = frozenset({"olmo3"})
_IN_32_BITS = frozenset({"gpt_oss"})
_PARTS = ("partial_rotary_factor", "rotary_pct", "rotary_emb_fraction")
_MROPE_COPIES = 4
"""vLLM makes the tables of models that see longer, for the positions of a video."""
_MOST_POSITIONS = 1 << 28
"""A table of more is out of all proportion."""
_MOST_ROPES = 8


def scalings(text: Config) -> tuple[Config, ...]:
    """List how positions are scaled: once, or by kind of layer as Transformers 5 writes it."""
    found = inner(text, "rope_scaling") or inner(text, "rope_parameters")
    nested = tuple(value for value in found.values() if isinstance(value, Mapping))
    return nested[:_MOST_ROPES] or (found,)


def kind(scaling: Config) -> str:
    """Name how positions are scaled."""
    found = word(scaling, "rope_type", "type") or "default"
    return "longrope" if found == "su" else found


def table_values(text: Config, head_dim: int) -> int:
    """Count the values of 16 bits of all tables; 0 if there are none, or their length is not known."""
    positions = integer(text, *fields.LENGTHS)
    if positions is None or word(text, "model_type") in _WITHOUT or text.get("alibi") is True:
        return 0
    latent = integer(text, "kv_lora_rank") is not None
    found: list[Config] = []
    values = 0
    for scaling in scalings(text):
        if scaling not in found:
            found.append(scaling)
            dims = integer(text, "qk_rope_head_dim") or 0 if latent else _dims(text, scaling, head_dim)
            wide = word(text, "model_type") in _IN_32_BITS or (latent and kind(scaling) != "default")
            values += _length(text, scaling, positions) * dims * (2 if wide else 1)
    if len(found) == 1 and _has_local(text, found[0]):
        values += positions * _dims(text, {}, head_dim)
    return values


def _has_local(text: Config, scaling: Config) -> bool:
    scaled = word(text, "model_type") in _UNSCALED_IN_WINDOWS and kind(scaling) != "default"
    return scaled or any(number(text, name) is not None for name in _LOCAL_DIFFERS)


def _dims(text: Config, scaling: Config, head_dim: int) -> int:
    """Tell how many values of a head are rotated."""
    if dims := integer(text, "rotary_dim"):  # GPT-J
        return dims
    parts = (number(place, name) for place in (scaling, text) for name in _PARTS)
    return int(head_dim * min(1.0, next((part for part in parts if part is not None), 1.0)))


def _length(text: Config, scaling: Config, positions: int) -> int:
    """Tell how many positions a table has."""
    original = integer(scaling, "original_max_position_embeddings")
    factor = number(scaling, "factor") or 1.0
    match kind(scaling):
        case "yarn" | "deepseek_yarn":
            length = int((original or positions) * factor)
        case "linear":
            length = int(positions * factor)
        case "longrope":  # one for short texts, one for long ones
            length = positions + (original or integer(text, "original_max_position_embeddings") or 0)
        case _:
            length = positions
    if "mrope_section" in scaling:
        length *= _MROPE_COPIES
    return length if length <= _MOST_POSITIONS else 0
