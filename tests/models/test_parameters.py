"""Totals are those that the models' makers publish; `test_real_models.py` has more of them."""

from __future__ import annotations

from typing import Any

import pytest

from vllmd.models import layers, parameters
from vllmd.models.facts import read
from vllmd.models.parameters import Parameters

LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "num_attention_heads": 128, "num_key_value_heads": 128, "num_hidden_layers": 61, "vocab_size": 129280,
    "n_routed_experts": 256, "n_shared_experts": 1, "first_k_dense_replace": 3, "moe_layer_freq": 1,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "tie_word_embeddings": False,
}  # fmt: skip
MAMBA = {
    "model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 50280, "state_size": 16,
    "conv_kernel": 4, "expand": 2, "time_step_rank": 48,
}  # fmt: skip


def counted(config: dict[str, Any]) -> Parameters:
    """Count, and expect that it can be."""
    found = read(config).parameters
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("config", "total"),
    [(LLAMA_8B, 8_030_261_248), (DEEPSEEK_V3, 671_026_419_200), (MAMBA, 129_135_360)],
    ids=["llama-3.1-8b", "deepseek-v3", "mamba-130m"],
)
def test_the_total_is_the_published_one(config: dict[str, Any], total: int) -> None:
    """To a thousandth: biases are left out."""
    assert counted(config).total == pytest.approx(total, rel=1e-3)


def test_parameters_stand_by_how_they_are_divided() -> None:
    """Keys and values of Llama can go to at most 8 GPUs without copies, norms are on each."""
    found = counted(LLAMA_8B)

    assert found.embedding == found.head == 128256 * 4096
    assert found.key_value == 32 * 2 * 4096 * 8 * 128
    assert found.replicated == (2 * 32 + 1) * 4096
    assert (found.experts, found.derived, found.vision) == (0, 0, 0)


def test_a_tied_embedding_counts_once() -> None:
    """Some families tie theirs without saying so."""
    assert counted(LLAMA_8B | {"tie_word_embeddings": True}).head == 0
    assert parameters.is_tied({"model_type": "gemma2"})
    assert not parameters.is_tied({"model_type": "llama"})


def test_experts_are_most_of_a_model_of_experts() -> None:
    """The first layers of DeepSeek's have none."""
    assert counted(DEEPSEEK_V3).experts == 58 * 256 * 3 * 7168 * 2048


def test_packed_up_projections_of_latent_attention_are_kept_a_second_time() -> None:
    """In 16 bits; where they are not packed vLLM keeps no more than views of them."""
    packed = counted(DEEPSEEK_V3 | {"quantization_config": {"quant_method": "fp8"}})

    assert packed.derived == 61 * 512 * 128 * (128 + 128)
    assert counted(DEEPSEEK_V3).derived == 0


def test_tables_of_rotary_embeddings_stand_in_no_checkpoint() -> None:
    """They are beside the total, as what is derived is."""
    found = counted(LLAMA_8B | {"max_position_embeddings": 131072})

    assert found.rotary == 131072 * 128
    assert found.total == counted(LLAMA_8B).total


def test_what_sees_is_counted_apart() -> None:
    """It is not divided as the language model is."""
    eyes = {"hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304, "patch_size": 14}
    found = counted({"text_config": LLAMA_8B, "vision_config": eyes})

    assert found.vision == pytest.approx(412_000_000, rel=0.03)  # SigLIP so400m, and its projector
    assert found.total - found.vision == counted(LLAMA_8B).total


@pytest.mark.parametrize("missing", ["hidden_size", "vocab_size", "num_attention_heads"])
def test_without_a_size_nothing_is_counted(missing: str) -> None:
    """A total that leaves something out would be believed."""
    config = {name: value for name, value in LLAMA_8B.items() if name != missing}

    assert parameters.count(config, layers.kinds(config) or (), 128) is None


def test_a_model_without_attention_needs_no_heads() -> None:
    """Mamba has none."""
    assert parameters.count(MAMBA, layers.kinds(MAMBA) or (), None) is not None
