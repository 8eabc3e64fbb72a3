"""How long a model's context may be at most, as vLLM derives it (`_get_and_verify_max_len` of its 0.25.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from vllmd.models import fields, rotary
from vllmd.models.fields import Config, integer, number, word

Runner = Literal["generate", "pooling"]

_SCALED_ALREADY = frozenset({"longrope", "llama3", "default", "mrope"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What lies beside a model's `config.json` and counts as well."""

    tokenizer: Config = dataclasses.field(default_factory=dict)
    """`tokenizer_config.json`."""
    encoder: Config = dataclasses.field(default_factory=dict)
    """`sentence_bert_config.json`."""
    pools: bool = False
    """Whether `modules.json` has a module that pools: then vLLM takes any architecture for one that does."""


def derive(config: Config, text: Config, runner: Runner, beside: Beside) -> int | None:
    """Derive the longest context; `None` if neither the configuration nor a file beside it says one.

    The tokenizer's limit counts for models that pool and have learned positions, and for no others. The encoder's,
    which Sentence Transformers writes, takes the place of all others.
    """
    if "do_lower_case" in beside.encoder and (encoder := integer(beside.encoder, "max_seq_length")):
        return encoder
    lengths = [value for name in fields.LENGTHS if (value := integer(text, name))]
    longest = integer(text, "model_max_length") or min(lengths, default=None)
    if runner == "pooling" and word(config, "position_embedding_type") == "absolute":
        limit = number(beside.tokenizer, "model_max_length")  # 1e30 stands for none, and is no number here
        if limit is not None and limit >= 1:
            longest = int(limit) if longest is None else min(longest, int(limit))
    if longest is None or "gemma3" in (word(config, "model_type") or ""):
        return longest
    return _scaled(text, longest)


def _scaled(text: Config, longest: int) -> int:
    factor = 1.0
    for scaling in rotary.scalings(text):
        kind = rotary.kind(scaling)
        if kind == "longrope":
            return integer(text, "original_max_position_embeddings") or longest
        if kind in _SCALED_ALREADY:
            continue
        factor = number(scaling, "factor") or factor
        if kind == "yarn":
            longest = integer(scaling, "original_max_position_embeddings") or longest
    return int(longest * factor)


def pools(modules: object) -> bool:
    """Tell whether a parsed `modules.json` has a module that pools."""
    found = modules if isinstance(modules, list) else []
    kinds = [one.get("type") for one in found if isinstance(one, Mapping)]
    return any(isinstance(kind, str) and kind.endswith(".Pooling") for kind in kinds)
