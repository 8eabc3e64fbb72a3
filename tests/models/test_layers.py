from __future__ import annotations

from typing import Any

import pytest

from vllmd.models import layers
from vllmd.models.layers import Kind

F, S, M, N = Kind.FULL, Kind.SLIDING, Kind.STATE, Kind.NONE


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"num_hidden_layers": 3}, (F, F, F)),
        ({"num_hidden_layers": 2, "sliding_window": 4096, "model_type": "mistral"}, (S, S)),
        ({"num_hidden_layers": 2, "sliding_window": None}, (F, F)),
        ({"num_hidden_layers": 2, "sliding_window": 4096, "use_sliding_window": False}, (F, F)),
        ({"num_hidden_layers": 3, "sliding_window": 9, "use_sliding_window": True, "max_window_layers": 2}, (F, F, S)),
        ({"num_hidden_layers": 4, "sliding_window": 4096, "model_type": "gemma2"}, (S, F, S, F)),
        ({"num_hidden_layers": 7, "sliding_window": 512, "model_type": "gemma3_text"}, (S, S, S, S, S, F, S)),
        ({"num_hidden_layers": 4, "sliding_window": 512, "sliding_window_pattern": 2}, (S, F, S, F)),
        ({"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 128}, (S, F)),
        ({"layer_types": ["sliding_attention", "full_attention"]}, (F, F)),
        ({"layer_types": ["linear_attention", "full_attention"], "num_hidden_layers": 2}, (M, F)),
        ({"num_hidden_layers": 4, "linear_num_value_heads": 32, "full_attention_interval": 4}, (M, M, M, F)),
        ({"num_hidden_layers": 4, "attn_layer_indices": [1, 3]}, (M, F, M, F)),
        ({"num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 2}, (M, M, F, M)),
        ({"num_hidden_layers": 4, "hybrid_override_pattern": "M-*-"}, (M, N, F, N)),
        ({"num_hidden_layers": 2, "model_type": "mamba2"}, (M, M)),
        ({"num_hidden_layers": 2, "model_type": "bert"}, (Kind.ENCODER, Kind.ENCODER)),
        ({"num_hidden_layers": 2, "model_type": "falcon_h1"}, (Kind.BOTH, Kind.BOTH)),
    ],
)
def test_what_layers_keep(config: dict[str, Any], expected: tuple[Kind, ...]) -> None:
    """By a list of them, by the family's pattern, or by its habit where the configuration leaves that open."""
    assert layers.kinds(config) == expected


@pytest.mark.parametrize("config", [{}, {"num_hidden_layers": 0}, {"num_hidden_layers": 10**9}, {"layer_types": [1]}])
def test_a_number_of_layers_that_makes_no_sense_is_unknown(config: dict[str, Any]) -> None:
    """One that no host could hold is not worth a list either."""
    assert layers.kinds(config) is None


def test_names_that_nobody_knows_are_not_guessed_at() -> None:
    """The layers are then what they are without a list."""
    assert layers.kinds({"num_hidden_layers": 2, "layer_types": ["wormhole", "full_attention"]}) == (F, F)


def test_a_layer_with_both_counts_twice() -> None:
    """It keeps keys and values, and a state."""
    counted = layers.count([Kind.BOTH, Kind.BOTH, F, S])

    assert (counted[F], counted[M], counted[S], counted[Kind.BOTH]) == (3, 2, 1, 0)
