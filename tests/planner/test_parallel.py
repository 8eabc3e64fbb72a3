from __future__ import annotations

import pytest

from vllmd.models.facts import ModelFacts
from vllmd.planner.parallel import refusal, sizes


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (ModelFacts(attention_heads=32, kv_heads=8), [1, 2, 4, 8]),
        (ModelFacts(attention_heads=24, kv_heads=8), [1, 2, 4, 8]),
        (ModelFacts(attention_heads=28, kv_heads=4), [1, 2, 4]),
        (ModelFacts(attention_heads=71, kv_heads=1), [1]),
        (ModelFacts(attention_heads=12, kv_heads=2), [1, 2, 4, 6]),
        (ModelFacts(attention_heads=16, kv_heads=16, latent_dim=576), [1, 2, 4, 8]),
        (ModelFacts(), [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_heads_are_divided_evenly(facts: ModelFacts, expected: list[int]) -> None:
    """With fewer heads of keys and values than GPUs, each is copied to as many."""
    assert sizes(facts, 8) == expected


def test_a_size_that_divides_nothing_is_refused_with_those_that_do() -> None:
    """At once: vLLM would say so after half a minute."""
    found = refusal(3, ModelFacts(attention_heads=28, kv_heads=4))

    assert found is not None
    assert found.invalid
    assert found.message.endswith("28 attention heads: it can be 1, 2, 4, 7, 14, 28.")
    assert refusal(7, ModelFacts(attention_heads=28, kv_heads=4)) is None
    assert refusal(3, None) is None


def test_heads_out_of_all_proportion_hold_nobody_up() -> None:
    """They come from a file of the model's."""
    found = refusal(7, ModelFacts(attention_heads=1 << 32, kv_heads=1))

    assert found is not None
    assert found.message.endswith("it can be 1, 2, 4, 8, 16, 32, 64.")
