"""Lengths and widths are those of vLLM 0.25.1; `tests/planner/test_memory.py` holds sums against what was measured."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.models import rotary

PLAIN = {"max_position_embeddings": 1000}


def scaled(kind: str, **more: object) -> dict[str, Any]:
    """A configuration of a model whose positions are scaled."""
    return PLAIN | {"rope_scaling": {"rope_type": kind, **more}}


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        (PLAIN, 1000),
        (scaled("llama3", factor=8.0, original_max_position_embeddings=100), 1000),
        (scaled("dynamic", factor=8.0), 1000),
        (scaled("linear", factor=4.0), 4000),
        (scaled("yarn", factor=40.0, original_max_position_embeddings=100), 4000),
        (scaled("yarn", factor=4.0), 4000),
        (scaled("longrope", original_max_position_embeddings=100), 1100),
        (scaled("su") | {"original_max_position_embeddings": 100}, 1100),
        (scaled("mrope", mrope_section=[16, 24, 24]), 4000),
    ],
)
def test_a_table_is_as_long_as_its_scaling_makes_it(text: dict[str, Any], positions: int) -> None:
    """Some lengths are scaled already; longrope has a table for short texts as well, and what sees has four times."""
    assert rotary.table_values(text, 64) == positions * 64


@pytest.mark.parametrize(
    ("text", "dims"),
    [
        ({"partial_rotary_factor": 0.5}, 64),
        ({"rotary_pct": 0.25}, 32),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, 64),
        ({"rotary_dim": 48}, 48),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 16}, 16),
        ({"kv_lora_rank": 512}, 0),
    ],
)
def test_only_a_part_of_a_head_may_be_rotated(text: dict[str, Any], dims: int) -> None:
    """With latent attention that part has a size of its own."""
    assert rotary.table_values(PLAIN | text, 128) == 1000 * dims


def test_layers_that_rotate_alike_share_a_table() -> None:
    """Two kinds of layers take two, however a configuration writes that; Gemma 3's windows are never scaled."""
    linear, default = {"rope_type": "linear", "factor": 8.0}, {"rope_type": "default", "rope_theta": 1e4}
    newer = PLAIN | {"rope_parameters": {"full_attention": linear, "sliding_attention": default}}
    alike = PLAIN | {"rope_parameters": {"full_attention": default, "sliding_attention": default}}
    older = PLAIN | {"rope_scaling": linear, "rope_local_base_freq": 1e4}

    assert [rotary.table_values(text, 64) for text in (newer, older, alike)] == [9000 * 64, 9000 * 64, 1000 * 64]


def test_olmo_scales_no_windows() -> None:
    """Its third version."""
    assert rotary.table_values(scaled("linear", factor=8.0) | {"model_type": "olmo3"}, 64) == 9000 * 64


def test_some_tables_have_32_bits() -> None:
    """Of gpt-oss, and of latent attention that is scaled."""
    latent = {"kv_lora_rank": 512, "qk_rope_head_dim": 64}

    assert rotary.table_values(PLAIN | {"model_type": "gpt_oss"}, 64) == 2 * 1000 * 64
    assert rotary.table_values(scaled("yarn", factor=1.0) | latent, 128) == 2 * 1000 * 64
    assert rotary.table_values(PLAIN | latent, 128) == 1000 * 64


@pytest.mark.parametrize("text", [{}, PLAIN | {"model_type": "opt"}, PLAIN | {"model_type": "falcon", "alibi": True}])
def test_not_every_model_rotates(text: dict[str, Any]) -> None:
    """And without a length nothing is known of a table."""
    assert rotary.table_values(text, 64) == 0


NAMES = ["max_position_embeddings", "rope_scaling", "rope_parameters", "rope_type", "type", "factor", "rotary_pct"]
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["yarn", "linear", "longrope", "su"]),
    lambda within: st.lists(within, max_size=2) | st.dictionaries(st.sampled_from(NAMES), within),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(NAMES), junk))
def test_no_configuration_makes_a_table_out_of_all_proportion(text: dict[str, Any]) -> None:
    """A configuration comes from anywhere."""
    assert 0 <= rotary.table_values(text, 256) < 1 << 44
