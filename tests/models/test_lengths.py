"""What vLLM 0.25.1 derives; `test_facts.py` and `test_real_models.py` have more configurations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.models import lengths
from vllmd.models.lengths import Beside, Runner

BERT = {"max_position_embeddings": 514, "position_embedding_type": "absolute"}


def derived(config: dict[str, Any], runner: Runner = "generate", **beside: Any) -> int | None:
    """Derive from a configuration without one within."""
    return lengths.derive(config, config, runner, Beside(**beside))


@pytest.mark.parametrize(
    ("config", "runner", "limit", "length"),
    [
        (BERT, "pooling", 512, 512),
        (BERT, "pooling", 8192, 514),
        (BERT, "pooling", 1e30, 514),
        (BERT, "pooling", 10**30, 514),
        (BERT, "pooling", "512", 514),
        (BERT, "pooling", 0.5, 514),
        (BERT, "generate", 512, 514),
        ({"max_position_embeddings": 514}, "pooling", 512, 514),
        ({"position_embedding_type": "absolute"}, "pooling", 512, 512),
    ],
)
def test_a_tokenizer_limits_what_pools_with_learned_positions(
    config: dict[str, Any], runner: Runner, limit: object, length: int
) -> None:
    """And nothing else; 1e30 stands for no limit."""
    assert derived(config, runner, tokenizer={"model_max_length": limit}) == length


def test_sentence_transformers_own_limit_counts_before_all_others() -> None:
    """Where its file is complete, whether the model's is shorter or longer."""
    complete = {"max_seq_length": 256, "do_lower_case": False}

    assert derived(BERT, encoder=complete) == 256
    assert derived({}, encoder=complete) == 256
    assert derived(BERT, encoder={"max_seq_length": 256}) == 514


def test_the_shortest_of_several_names_counts() -> None:
    """Unless a model has one that goes before all others."""
    both = {"max_position_embeddings": 8192, "seq_length": 2048}

    assert derived(both) == 2048
    assert derived(both | {"model_max_length": 131072}) == 131072


def test_scaling_may_differ_by_layer() -> None:
    """As Transformers 5 writes it."""
    ropes = {"full_attention": {"rope_type": "linear", "factor": 8.0}, "sliding_attention": {"rope_type": "default"}}

    assert derived({"max_position_embeddings": 1000, "rope_parameters": ropes}) == 8000


def test_no_length_is_none() -> None:
    """It is not the 2048 that vLLM takes then: a plan says where a number is from."""
    assert derived({}) is None


@pytest.mark.parametrize(
    ("modules", "found"),
    [
        (
            [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Pooling"}],
            True,
        ),
        ([{"type": "sentence_transformers.models.Transformer"}], False),
        ([7, {"type": 7}, {}], False),
        ({"type": "sentence_transformers.models.Pooling"}, False),
        (None, False),
    ],
)
def test_modules_say_whether_a_model_pools(modules: object, found: bool) -> None:
    """Sentence Transformers lists what a model is put together from."""
    assert lengths.pools(modules) is found


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@given(
    st.dictionaries(st.sampled_from([*BERT, "model_max_length", "seq_len"]), anything),
    st.dictionaries(st.sampled_from(["model_max_length"]), anything),
    st.dictionaries(st.sampled_from(["max_seq_length", "do_lower_case"]), anything),
)
def test_no_file_makes_it_fail(config: dict[str, Any], tokenizer: dict[str, Any], encoder: dict[str, Any]) -> None:
    """All three come from anywhere."""
    found = derived(config, "pooling", tokenizer=tokenizer, encoder=encoder)

    assert found is None or found > 0
