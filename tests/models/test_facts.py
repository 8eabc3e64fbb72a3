from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.models.facts import ModelFacts, read

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

    assert facts == ModelFacts(32, 8, 128, 32, 131072, 16_060_556_288, "bfloat16")
    assert facts.kv_bytes_per_token == 128 << 10


def test_a_head_size_of_its_own() -> None:
    """Where the configuration names the size of a head, it is not the hidden size over the heads."""
    facts = read({"hidden_size": 2048, "num_attention_heads": 16, "head_dim": 256})

    assert facts.head_dim == 256
    assert facts.kv_heads == 16


def test_older_names() -> None:
    """GPT-2 calls the same things otherwise."""
    facts = read({"n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024})

    assert facts == ModelFacts(12, 12, 64, 12, 1024)


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
