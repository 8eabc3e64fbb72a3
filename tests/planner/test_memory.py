from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.measured_loads import LOADS, facts_of, laid_out, named, sizes_of, tokens_of, weights_of
from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind
from vllmd.planner.memory import GUESS_BYTES, OTHER_BYTES, Sizes, beside, beyond

DENSE = ModelFacts(hidden_size=4096, intermediate_size=12288, vocabulary=151_936, kinds=(Kind.FULL,) * 36)
GIB = 1 << 30


@pytest.mark.parametrize("load", LOADS, ids=named)
def test_plans_hold_where_they_were_measured(load: dict[str, Any]) -> None:
    """Weights to 2 %, tokens of KV cache to 2 %; what is beside them is fitted to these very loads."""
    assert weights_of(load) == pytest.approx(load["weights_bytes"], rel=0.02, abs=70 << 20)
    assert tokens_of(load) == pytest.approx(load["kv_cache_tokens"], rel=0.02)


@pytest.mark.parametrize("load", LOADS, ids=named)
def test_a_cache_of_known_size_holds_what_vllm_says(load: dict[str, Any]) -> None:
    """To the token, whatever its layers keep."""
    assert laid_out(load).capacity(load["kv_cache_bytes"], load["max_model_len"]) == load["kv_cache_tokens"]


@pytest.mark.parametrize("load", [load for load in LOADS if "nvml_peak_bytes" in load], ids=named)
def test_what_comes_on_top_was_never_much_more_than_is_kept_for_it(load: dict[str, Any]) -> None:
    """By NVML: the most that was in use, less what vLLM was given, and what it had set aside and used for graphs.

    But for gpt-oss, whose kernels take another GiB as they are warmed up.
    """
    peak = load["nvml_peak_bytes"] - load["nvml_before_bytes"] - load["requested_bytes"]

    allowed = 1.2 * GIB if "gpt-oss" in load["model"] else GIB // 2

    assert -GIB < peak - beyond(facts_of(load), sizes_of(load)) < allowed


def test_the_largest_peak_counts() -> None:
    """With many requests it is in the sampler, with many tokens in the forward pass, else in the first compilation."""
    few = activation(tokens=2048, sequences=16)

    assert activation(tokens=2048, sequences=64) == few
    assert activation(tokens=32768, sequences=16) > 2 * few
    assert activation(tokens=2048, sequences=4096) > 2 * few
    assert activation(tokens=2048, sequences=16, eager=True) < few / 5


def activation(**sizes: Any) -> int:
    """What activations take."""
    return beside(DENSE, Sizes(**sizes)).activation


def test_more_gpus_divide_what_is_inside_an_mlp() -> None:
    """But not what goes from layer to layer."""
    one = activation(tokens=32768, sequences=1)
    two = activation(tokens=32768, sequences=1, tensor_parallel=2)

    assert one / 2 < two < one


def test_a_model_that_pools_has_no_sampler() -> None:
    """Nor its logits."""
    small = ModelFacts(runner="pooling", hidden_size=768, intermediate_size=3072, vocabulary=30522, kinds=())
    many, one = (beside(small, Sizes(tokens=2048, sequences=count)) for count in (1024, 1))

    assert many == one
    assert sum(many) < OTHER_BYTES + (80 << 20)


def test_sizes_that_are_not_known_are_guessed_at() -> None:
    """As too large rather than too small."""
    assert beside(ModelFacts(), Sizes(tokens=8192, sequences=1024)).activation == GUESS_BYTES


def test_an_eager_engine_has_no_graphs() -> None:
    """Nor one whose model is not known any that could be told."""
    eager = beyond(DENSE, Sizes(tokens=2048, sequences=1, eager=True))

    assert eager < 2 << 20
    assert beyond(DENSE, Sizes(tokens=2048, sequences=1, largest_graph=512)) - eager == 36 * (32 << 20)
    assert beyond(None, Sizes(tokens=2048, sequences=1)) == 0


@given(st.integers(1, 65536), st.integers(1, 4096), st.sampled_from([1, 2, 4, 8]))
def test_more_at_once_never_takes_less(tokens: int, sequences: int, size: int) -> None:
    """Of tokens, and of requests."""
    least = activation(tokens=tokens, sequences=sequences, tensor_parallel=size)

    assert activation(tokens=tokens + 1, sequences=sequences, tensor_parallel=size) >= least
    assert activation(tokens=tokens, sequences=sequences + 1, tensor_parallel=size) >= least
