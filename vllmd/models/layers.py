"""What kind of memory each layer of a model keeps for a sequence.

Names and defaults are those of the models' own configurations, as vLLM reads them.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable

from vllmd.models.fields import Config, boolean, integer, integers, word, words

MOST_LAYERS = 1000
"""More is nonsense, and a plan that goes through so many holds the daemon's loop up."""


class Kind(enum.StrEnum):
    """What a layer keeps."""

    FULL = "full"
    """Keys and values of every token."""
    SLIDING = "sliding"
    """Those of the last tokens, as many as the window has."""
    CHUNKED = "chunked"
    """Those of the current chunk."""
    STATE = "state"
    """A state of fixed size: mamba, linear attention."""
    BOTH = "both"
    """Keys and values of every token, and a state: attention and mamba side by side."""
    ENCODER = "encoder"
    """Nothing once it is done: attention in both directions over a whole text."""
    NONE = "none"
    """Nothing: an MLP by itself."""


_NAMES = {
    "full_attention": Kind.FULL,
    "attention": Kind.FULL,
    "global": Kind.FULL,
    "hybrid": Kind.BOTH,
    "sliding_attention": Kind.SLIDING,
    "local": Kind.SLIDING,
    "chunked_attention": Kind.CHUNKED,
    "linear_attention": Kind.STATE,
    "mamba": Kind.STATE,
    "mamba2": Kind.STATE,
    "recurrent": Kind.STATE,
    "conv": Kind.STATE,
    "moe": Kind.NONE,
    "mlp": Kind.NONE,
}
_LETTERS = {"M": Kind.STATE, "*": Kind.FULL, "-": Kind.NONE, "E": Kind.NONE}
"""Of `hybrid_override_pattern`, as Nemotron-H writes it."""

_STATE_ONLY = frozenset({"mamba", "mamba2", "falcon_mamba"})
_ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert"})
_SIDE_BY_SIDE = frozenset({"falcon_h1"})
_EVERY_OTHER_FULL = frozenset({"gemma2"})
_PATTERNS = {"gemma3_text": 6, "gemma3": 6, "cohere2": 4}
"""One layer of so many is full where the configuration leaves the pattern open."""


def kinds(config: Config) -> tuple[Kind, ...] | None:
    """Tell what each layer keeps, from the first to the last; `None` if the number of layers is not known."""
    named = _named(config)
    count = integer(config, "num_hidden_layers", "n_layer", "num_layers") or len(named)
    if not 0 < count <= MOST_LAYERS:
        return None
    if len(named) >= count:
        return _without_window(config, named[:count])
    model_type = word(config, "model_type") or ""
    if model_type in _STATE_ONLY:
        return (Kind.STATE,) * count
    if model_type in _ENCODERS:
        return (Kind.ENCODER,) * count
    if model_type in _SIDE_BY_SIDE:
        return (Kind.BOTH,) * count
    rule = _hybrid(config) or _sliding(config, model_type)
    return tuple(map(rule, range(count)))


def count(layers: Iterable[Kind]) -> Counter[Kind]:
    """Count layers by what they keep; those with both count as each."""
    counted = Counter(layers)
    for kind in (Kind.FULL, Kind.STATE):
        counted[kind] += counted[Kind.BOTH]
    del counted[Kind.BOTH]
    return counted


def _named(config: Config) -> tuple[Kind, ...]:
    """Read a list that names each layer."""
    for name in ("layer_types", "layers_block_type", "block_types", "attn_type_list"):
        found = words(config, name)
        if found and all(item in _NAMES for item in found):
            return tuple(_NAMES[item] for item in found)
    letters = word(config, "hybrid_override_pattern") or ""
    return tuple(_LETTERS[letter] for letter in letters) if letters and set(letters) <= set(_LETTERS) else ()


def _without_window(config: Config, layers: tuple[Kind, ...]) -> tuple[Kind, ...]:
    """Take sliding layers for full ones where there is no window."""
    if window(config) is not None:
        return layers
    return tuple(Kind.FULL if kind is Kind.SLIDING else kind for kind in layers)


def _hybrid(config: Config) -> Callable[[int], Kind] | None:
    """Find the rule of a model in which only some layers attend."""
    indices = integers(config, "attn_layer_indices")
    if indices:
        return lambda layer: Kind.FULL if layer in indices else Kind.STATE
    if period := integer(config, "attn_layer_period"):
        offset = integer(config, "attn_layer_offset", least=0) or 0
        return lambda layer: Kind.FULL if layer % period == offset else Kind.STATE
    if integer(config, "linear_num_value_heads"):
        interval = integer(config, "full_attention_interval") or 4
        return lambda layer: Kind.FULL if (layer + 1) % interval == 0 else Kind.STATE
    return None


def _sliding(config: Config, model_type: str) -> Callable[[int], Kind]:
    """Find the rule of a model in which all layers attend."""
    if window(config) is None:
        return lambda layer: Kind.FULL
    if model_type in _EVERY_OTHER_FULL:
        return lambda layer: Kind.FULL if layer % 2 else Kind.SLIDING
    pattern = integer(config, "sliding_window_pattern", "_sliding_window_pattern") or _PATTERNS.get(model_type)
    if pattern:
        return lambda layer: Kind.SLIDING if (layer + 1) % pattern else Kind.FULL
    if from_layer := integer(config, "max_window_layers", least=0):
        return lambda layer: Kind.SLIDING if layer >= from_layer else Kind.FULL
    return lambda layer: Kind.SLIDING


def window(config: Config) -> int | None:
    """Read how many tokens a sliding layer looks back on; `None` if there is no limit."""
    if "use_sliding_window" in config and not boolean(config, "use_sliding_window"):
        return None
    return integer(config, "sliding_window")
