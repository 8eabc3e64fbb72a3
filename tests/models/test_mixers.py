"""Sizes of published models; `test_real_models.py` holds their states against what was worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.models import mixers

QWEN3_NEXT = {
    "linear_num_value_heads": 32, "linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}  # fmt: skip
BAMBA = {"mamba_d_state": 128, "mamba_d_conv": 4, "mamba_n_heads": 128, "mamba_d_head": 64, "mamba_n_groups": 1}
MAMBA = {"state_size": 16, "conv_kernel": 4, "expand": 2, "time_step_rank": 48}


@pytest.mark.parametrize(
    ("text", "hidden", "convolved", "state"),
    [
        (QWEN3_NEXT, 2048, 8192, 32 * 128 * 128),
        (BAMBA, 4096, 8192 + 2 * 128, 8192 * 128),
        (MAMBA, 768, 1536, 1536 * 16),
    ],
    ids=["linear attention", "mamba 2", "mamba"],
)
def test_sizes_are_read_by_their_family(text: dict[str, Any], hidden: int, convolved: int, state: int) -> None:
    """Each calls them otherwise."""
    found = mixers.read(text, hidden)

    assert (found.convolved, found.kernel, found.state) == (convolved, 4, state)


def test_a_sequence_keeps_inputs_and_a_state() -> None:
    """The convolution looks back on one token less than its kernel has; the state may be of a type of its own."""
    found = mixers.read(MAMBA, 768)

    assert found.bytes_of_sequence(2) == 3 * 1536 * 2 + 1536 * 16 * 2
    assert found.bytes_of_sequence(4) - found.bytes_of_sequence(2) == 1536 * 16 * 2


def test_what_is_not_said_is_what_the_class_has() -> None:
    """Mamba's own defaults: twice as wide, 16 values of state, 4 tokens."""
    assert mixers.read({}, 768) == mixers.read(MAMBA, 768)


@given(st.dictionaries(st.sampled_from([*QWEN3_NEXT, *BAMBA, *MAMBA]), st.none() | st.integers() | st.text()))
def test_sizes_are_never_negative(text: dict[str, Any]) -> None:
    """Whatever a configuration says."""
    found = mixers.read(text, 4096)

    assert min(found.convolved, found.kernel, found.state, found.parameters) >= 0
