from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.models.facts import ModelFacts, read
from vllmd.planner.kv_cache import lay_out
from vllmd.planner.memory import GUESS_BYTES, OTHER_BYTES, beside
from vllmd.planner.weights import bytes_on_each

DATA = pathlib.Path(__file__).parents[1] / "data"
LOADS: list[dict[str, Any]] = [
    json.loads(line) for path in (DATA / "measured").glob("*.jsonl") for line in path.read_text().splitlines()
]
DENSE = ModelFacts(hidden_size=4096, intermediate_size=12288, vocabulary=151_936)


def facts_of(name: str) -> ModelFacts:
    """Read a model's configuration."""
    return read(json.loads((DATA / "models" / name / "config.json").read_text()))


@pytest.mark.parametrize("load", LOADS, ids=lambda load: f"{load['model']}{load['args'] or ''}")
def test_plans_hold_where_they_were_measured(load: dict[str, Any]) -> None:
    """Weights to 0.1 %, tokens of KV cache to 5 %; what is beside them is fitted to these very loads.

    Packed experts to 1.5 %: kernels pad them.
    """
    facts = facts_of(load["model"])
    tokens = load["max_num_batched_tokens"]
    weights = bytes_on_each(facts)
    layout = lay_out(facts, in_flight=tokens, prefix_caching=load["prefix_caching"])
    assert weights is not None
    assert layout is not None
    pool = load["requested_bytes"] - weights - beside(facts, tokens, load["max_num_seqs"])

    assert weights == pytest.approx(load["weights_bytes"], rel=0.015 if facts.quantization else 0.001)
    assert layout.capacity(pool, load["max_model_len"]) == pytest.approx(load["kv_cache_tokens"], rel=0.05)


@pytest.mark.parametrize("load", LOADS, ids=lambda load: f"{load['model']}{load['args'] or ''}")
def test_a_cache_of_known_size_holds_what_vllm_says(load: dict[str, Any]) -> None:
    """To the token, whatever its layers keep."""
    layout = lay_out(facts_of(load["model"]), in_flight=load["max_num_batched_tokens"])

    assert layout is not None
    assert layout.capacity(load["kv_cache_bytes"], load["max_model_len"]) == load["kv_cache_tokens"]


def test_the_larger_peak_counts() -> None:
    """With many requests it is in the sampler, with many tokens in the forward pass."""
    few = beside(DENSE, 2048, 1024)

    assert beside(DENSE, 4096, 1024) == few
    assert beside(DENSE, 32768, 1024) > 2 * few
    assert beside(DENSE, 2048, 16) < few


def test_more_gpus_divide_what_is_inside_an_mlp() -> None:
    """But not what goes from layer to layer."""
    one, two = beside(DENSE, 32768, 1, 1) - OTHER_BYTES, beside(DENSE, 32768, 1, 2) - OTHER_BYTES

    assert one / 2 < two < one


def test_a_model_that_pools_has_no_sampler() -> None:
    """Nor its logits."""
    small = ModelFacts(runner="pooling", hidden_size=768, intermediate_size=3072)

    assert beside(small, 2048, 1024) == beside(small, 2048, 1) < OTHER_BYTES + (64 << 20)


def test_sizes_that_are_not_known_are_guessed_at() -> None:
    """As too large rather than too small."""
    assert beside(ModelFacts(), 8192, 1024) == GUESS_BYTES


@given(st.integers(1, 65536), st.integers(1, 4096), st.sampled_from([1, 2, 4, 8]))
def test_more_at_once_never_takes_less(tokens: int, sequences: int, size: int) -> None:
    """Of tokens, and of requests."""
    least = beside(DENSE, tokens, sequences, size)

    assert beside(DENSE, tokens + 1, sequences, size) >= least
    assert beside(DENSE, tokens, sequences + 1, size) >= least
