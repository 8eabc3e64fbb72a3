from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.models.facts import dtype_bytes, read

LLAMA_8B = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


def test_a_common_config() -> None:
    """Llama 3.1 8B: grouped queries, and a head's size that has to be worked out."""
    facts = read(LLAMA_8B, weight_bytes=16_060_556_288)

    assert (facts.attention_heads, facts.kv_heads, facts.head_dim, facts.layers) == (32, 8, 128, 32)
    assert (facts.max_model_len, facts.weight_bytes, facts.dtype) == (131072, 16_060_556_288, "bfloat16")
    assert facts.kv_bytes_per_token == 128 << 10


def test_a_head_size_of_its_own() -> None:
    """Where the configuration names the size of a head, it is not the hidden size over the heads."""
    facts = read({"hidden_size": 2048, "num_attention_heads": 16, "head_dim": 256})

    assert facts.head_dim == 256
    assert facts.kv_heads == 16


def test_older_names() -> None:
    """GPT-2 calls the same things otherwise."""
    facts = read({"n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024})

    assert (facts.attention_heads, facts.kv_heads, facts.head_dim, facts.layers) == (12, 12, 64, 12)
    assert facts.max_model_len == 1024


@pytest.mark.parametrize("name", ["text_config", "llm_config", "language_config"])
def test_models_that_see_have_their_text_model_inside(name: str) -> None:
    """What counts for the plan is the language model's own configuration."""
    facts = read({"hidden_size": 1, "torch_dtype": "torch.float16", name: LLAMA_8B | {"torch_dtype": None}})

    assert facts.attention_heads == 32
    assert facts.dtype == "float16"


def test_the_newer_name_of_the_dtype() -> None:
    """Transformers 5 writes `dtype`."""
    assert read({"dtype": "bfloat16", "torch_dtype": "float32"}).dtype == "bfloat16"


@pytest.mark.parametrize("missing", ["num_attention_heads", "num_hidden_layers"])
def test_what_is_not_said_is_not_known(missing: str) -> None:
    """Without one of its factors the size of the KV cache is unknown, not zero."""
    facts = read({name: value for name, value in LLAMA_8B.items() if name not in (missing, "num_key_value_heads")})

    assert facts.kv_bytes_per_token is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*LLAMA_8B, "head_dim"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*LLAMA_8B, "head_dim", "text_config", "dtype"]), anything))
def test_no_config_makes_it_fail(config: dict[str, Any]) -> None:
    """A configuration comes from anywhere: what makes no sense in it is unknown."""
    facts = read(config)
    numbers = (facts.attention_heads, facts.kv_heads, facts.layers, facts.max_model_len)

    assert all(number is None or number > 0 for number in numbers)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 262144),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}, 131072),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 131072),
        ({"model_max_length": 8192}, 8192),
    ],
)
def test_the_longest_context_is_what_vllm_derives(config: dict[str, Any], length: int) -> None:
    """Scaled positions count, except where the length in the configuration is scaled already."""
    assert read(LLAMA_8B | config).max_model_len == length


def test_latent_attention_keeps_one_vector_a_token() -> None:
    """DeepSeek's MLA: 512 and 64 values for all heads together."""
    facts = read(LLAMA_8B | {"kv_lora_rank": 512, "qk_rope_head_dim": 64})

    assert facts.latent_dim == 576
    assert facts.kv_bytes_per_token == 32 * 576 * 2


def test_only_layers_that_keep_every_token_grow_with_the_context() -> None:
    """Gemma 3: one of six."""
    facts = read(LLAMA_8B | {"model_type": "gemma3_text", "num_hidden_layers": 12, "sliding_window": 1024})

    assert facts.window == 1024
    assert facts.kv_bytes_per_token == 2 * 8 * 256 * 2 * 2


def test_a_state_has_one_size() -> None:
    """Bamba: 3 inputs of the convolution, and 128 values for each of 8192 channels."""
    mamba = {"mamba_d_state": 128, "mamba_d_conv": 4, "mamba_n_heads": 128, "mamba_d_head": 64, "mamba_n_groups": 1}
    facts = read(LLAMA_8B | mamba | {"attn_layer_indices": [9, 18, 27]})

    assert facts.state_bytes == 3 * (8192 + 2 * 128) * 2 + 8192 * 128 * 2
    assert facts.kv_bytes_per_token == 3 * 8 * 128 * 2 * 2


@pytest.mark.parametrize(
    ("architecture", "runner"),
    [
        ("LlamaForCausalLM", "generate"),
        ("Gemma3ForConditionalGeneration", "generate"),
        ("BertModel", "pooling"),
        ("Qwen3ForSequenceClassification", "pooling"),
    ],
)
def test_what_a_model_is_for(architecture: str, runner: str) -> None:
    """By the class that its configuration names."""
    assert read({"architectures": [architecture]}).runner == runner


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 2), ("float32", 2), ("float8_e4m3fn", 1), (None, 2)])
def test_what_a_weight_takes_in_memory(dtype: str | None, size: int) -> None:
    """VLLM loads 32 bits as 16 where it is to choose."""
    assert dtype_bytes(dtype) == size


ENORMOUS = 10**400


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": ENORMOUS},
        {"vocab_size": ENORMOUS},
        {"num_attention_heads": 10**13},
        {"num_experts": ENORMOUS},
        {"rope_scaling": {"type": "linear", "factor": float("inf")}},
        {"rope_scaling": {"type": "linear", "factor": float("nan")}},
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": ENORMOUS}},
        {"quantization_config": {"quant_method": "gptq", "bits": ENORMOUS}},
        {"num_hidden_layers": 1000, "num_experts": 8, "mlp_only_layers": [0] * 200_000},
        {"num_hidden_layers": 1000, "attn_layer_indices": [0] * 200_000},
        {"thinker_config": {"thinker_config": {"thinker_config": {}}}},
    ],
    ids=lambda config: next(iter(config)),
)
def test_numbers_out_of_all_proportion_are_unknown(config: dict[str, Any]) -> None:
    """A configuration comes from anywhere, and nobody may be held up by one."""
    facts = read(LLAMA_8B | {"vocab_size": 32000, "intermediate_size": 14336} | config)

    assert (facts.max_model_len or 0) < 1 << 40
    assert facts.parameters is None or facts.parameters.total < 1 << 80
