from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind
from vllmd.planner.kv_cache import Layout, lay_out

GIB = 1 << 30
LLAMA_8B = ModelFacts(kv_heads=8, head_dim=128, kinds=(Kind.FULL,) * 32)
GEMMA_4B = ModelFacts(kv_heads=4, head_dim=256, kinds=((Kind.SLIDING,) * 5 + (Kind.FULL,)) * 5 + (Kind.SLIDING,) * 4,
                      window=1024)  # fmt: skip
BAMBA = ModelFacts(kv_heads=8, head_dim=128, kinds=((Kind.STATE,) * 9 + (Kind.FULL,)) * 3 + (Kind.STATE,) * 2,
                   state_bytes=3 * 8448 * 2 + 8192 * 128 * 2)  # fmt: skip


def laid_out(facts: ModelFacts, **options: Any) -> Layout:
    """Lay out, and expect that it can be."""
    found = lay_out(facts, **({"in_flight": 8192} | options))
    assert found is not None
    return found


def test_a_plain_model_has_one_group() -> None:
    """Llama 3.1 8B: 128 KiB a token, as in every text about it; 20 GiB hold 163,840 tokens."""
    layout = laid_out(LLAMA_8B)

    assert layout.groups == ((Kind.FULL, 1),)
    assert layout.bytes_of(16) == 16 * (128 << 10)
    assert layout.bytes_of(17) == 32 * (128 << 10)
    assert layout.capacity(20 * GIB, 8192) == 163_840


@pytest.mark.parametrize(("options", "part"), [
    ({"tensor_parallel": 2}, 2), ({"tensor_parallel": 8}, 8), ({"tensor_parallel": 16}, 8), ({"value_bytes": 1}, 2),
    ({"pipeline_parallel": 2}, 2), ({"tensor_parallel": 2, "pipeline_parallel": 4}, 8),
])  # fmt: skip
def test_what_divides_the_cache(options: dict[str, Any], part: int) -> None:
    """Heads and layers among GPUs, and bytes; more GPUs than heads of keys and values do not divide further."""
    assert laid_out(LLAMA_8B, **options).bytes_of(1024) == 1024 * (128 << 10) // part


def test_sliding_layers_stop_growing() -> None:
    """Gemma 3 4B: groups of 5 layers, one full and six sliding ones, of which the last is padded."""
    layout = laid_out(GEMMA_4B, in_flight=2048)
    short, long, longer = layout.blocks_of(1024), layout.blocks_of(65536), layout.blocks_of(131072)

    assert layout.group_layers == 5
    assert layout.groups == ((Kind.SLIDING, 6), (Kind.FULL, 1))
    assert short == 64 + 6 * 65
    assert long == 4096 + 6 * (192 + 1)
    assert longer - long == 4096


def test_about_as_many_of_each_kind_share_a_group_of_the_larger() -> None:
    """12 sliding and 13 full layers, as gpt-oss has with a drafter: padding by one is cheaper than twice as many."""
    kinds = (Kind.SLIDING,) * 12 + (Kind.FULL,) * 13
    layout = laid_out(ModelFacts(kv_heads=8, head_dim=64, kinds=kinds, window=128))

    assert layout.group_layers == 13
    assert dict(layout.groups) == {Kind.SLIDING: 1, Kind.FULL: 1}


def test_states_make_blocks_long() -> None:
    """Bamba: a state is as large as keys and values of 525 tokens, so a block has 528."""
    layout = laid_out(BAMBA, prefix_caching=False)

    assert layout.block_tokens == 528
    assert layout.page_bytes >= (BAMBA.state_bytes or 0)
    assert layout.groups == ((Kind.STATE, 10), (Kind.FULL, 1))
    assert layout.blocks_of(528) == 11
    assert laid_out(BAMBA).blocks_of(528) == 21


def test_a_model_of_states_alone_takes_the_same_whatever_the_context() -> None:
    """Mamba."""
    layout = laid_out(ModelFacts(kinds=(Kind.STATE,) * 24, state_bytes=58_368))

    assert layout.bytes_of(1) == layout.bytes_of(1 << 20) == 24 * 58_368


def test_latent_attention_is_not_divided() -> None:
    """DeepSeek's MLA: each GPU keeps the whole vector."""
    facts = ModelFacts(kv_heads=128, head_dim=56, latent_dim=576, kinds=(Kind.FULL,) * 61)

    assert laid_out(facts).bytes_of(16) == laid_out(facts, tensor_parallel=8).bytes_of(16) == 16 * 61 * 1152


@pytest.mark.parametrize(
    "facts",
    [ModelFacts(), ModelFacts(kinds=(Kind.FULL,)), ModelFacts(kinds=(Kind.FULL, Kind.STATE), kv_heads=1, head_dim=1)],
)
def test_without_its_facts_nothing_is_laid_out(facts: ModelFacts) -> None:
    """A layout that leaves something out would be believed."""
    assert lay_out(facts, in_flight=8192) is None


models = st.builds(
    ModelFacts,
    kv_heads=st.integers(1, 16),
    head_dim=st.sampled_from([64, 128, 256]),
    kinds=st.lists(st.sampled_from(Kind), min_size=1, max_size=80).map(tuple),
    window=st.integers(1, 4096),
    chunk=st.integers(1, 8192),
    state_bytes=st.integers(1, 8 << 20),
)


@given(models, st.integers(0, 100 * GIB), st.integers(1, 1 << 20), st.integers(1, 16))
def test_the_longest_context_fits_and_one_more_token_does_not(
    facts: ModelFacts, pool: int, at_most: int, size: int
) -> None:
    """And is never longer than asked for."""
    layout = laid_out(facts, tensor_parallel=size)
    if not layout.groups:
        return
    found = layout.longest(pool, at_most)

    assert 0 <= found <= at_most
    assert found == 0 or layout.bytes_of(found) + layout.block_bytes <= pool
    assert found == at_most or layout.bytes_of(found + 1) + layout.block_bytes > pool
