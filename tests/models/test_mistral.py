from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.models import facts, mistral
from vllmd.models.layers import Kind

MISTRAL_7B = {
    "dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8,
    "norm_eps": 1e-5, "vocab_size": 32768, "rope_theta": 1e6,
}  # fmt: skip


def read(**more: object) -> facts.ModelFacts:
    """Read the facts of a model, given what it has beyond Mistral 7B."""
    return facts.read(mistral.as_config(MISTRAL_7B | more))


def test_a_dense_model_is_read_as_from_its_other_form() -> None:
    """Mistral 7B v0.3: what is published of it."""
    found = read()

    assert (found.layers, found.attention_heads, found.kv_heads, found.head_dim) == (32, 32, 8, 128)
    assert found.architecture == "MistralForCausalLM"
    assert found.parameters is not None
    assert found.parameters.total == pytest.approx(7_248_023_552, rel=1e-4)


def test_the_longest_context_has_a_default() -> None:
    """It is vLLM's, and yarn makes more of what it starts from."""
    yarn = {"factor": 8.0, "original_max_position_embeddings": 32768}

    assert read().max_model_len == 128_000
    assert read(max_seq_len=32768).max_model_len == 32768
    assert read(yarn=yarn).max_model_len == 262_144


def test_experts_stand_in_a_table_of_their_own() -> None:
    """With those that are always used it is another architecture."""
    mixtral = read(moe={"num_experts": 8, "num_experts_per_tok": 2})
    shared = read(moe={"num_experts": 8, "num_experts_per_tok": 2, "num_shared_experts": 1, "expert_hidden_dim": 2048})

    assert (mixtral.architecture, mixtral.experts, mixtral.experts_per_token) == ("MixtralForCausalLM", 8, 2)
    assert (shared.architecture, shared.expert_intermediate_size) == ("MistralLarge3ForCausalLM", 2048)


def test_windows_may_come_in_a_pattern() -> None:
    """Which is repeated over all layers."""
    found = read(sliding_window=[None, 4096, 4096, 4096])

    assert found.kinds == (Kind.FULL, Kind.SLIDING, Kind.SLIDING, Kind.SLIDING) * 8
    assert found.window == 4096


def test_what_sees_and_what_is_packed() -> None:
    """Pixtral's encoder, and 8 bits a weight."""
    found = read(vision_encoder={"hidden_size": 1024, "num_hidden_layers": 24}, quantization={"qformat_weight": "fp8"})

    assert found.multimodal
    assert found.quantization is not None
    assert found.quantization.bits == 8


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda within: st.lists(within, max_size=3) | st.dictionaries(st.sampled_from(["num_experts", "type"]), within),
    max_leaves=5,
)
NAMES = [*MISTRAL_7B, "moe", "yarn", "sliding_window", "quantization", "vision_encoder", "multimodal"]


@given(st.dictionaries(st.sampled_from(NAMES), anything))
def test_no_file_makes_it_fail(params: dict[str, Any]) -> None:
    """It comes from anywhere."""
    facts.read(mistral.as_config(params))
