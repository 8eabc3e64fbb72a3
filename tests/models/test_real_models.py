"""What is read from real configurations, against what was worked out by hand: see `tests/data/models/README.md`."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from vllmd.models.facts import ModelFacts, read
from vllmd.models.layers import Kind
from vllmd.planner.kv_cache import lay_out
from vllmd.planner.weights import bytes_on_each

DATA = pathlib.Path(__file__).parents[1] / "data" / "models"
EXPECTED: dict[str, dict[str, Any]] = json.loads((DATA / "expected.json").read_text())
KEPT_TWICE = {"deepseek-v3": 61 * 512 * 128 * 256 * 2}
"""What vLLM makes of packed up-projections of MLA beside the checkpoint."""
KEPT_BESIDE = {"qwen2.5-7b-awq": 6_525_288_448 // 128 * 30 // 8}
"""What its kernels keep of scales and zero points beside the checkpoint's."""


def facts_of(name: str) -> ModelFacts:
    """Read a model's configuration."""
    return read(json.loads((DATA / name / "config.json").read_text()))


@pytest.mark.parametrize("name", EXPECTED)
def test_parameters_and_weights(name: str) -> None:
    """To half a hundredth: biases and the norms of single heads are left out, and parts that see are estimated."""
    facts, expected = facts_of(name), EXPECTED[name]
    weights = bytes_on_each(facts)

    assert facts.parameters is not None
    assert weights is not None
    assert facts.parameters.total == pytest.approx(expected["parameters"], rel=1e-2)  # with what vLLM does not load
    beside = KEPT_TWICE.get(name, 0) + KEPT_BESIDE.get(name, 0) + 2 * facts.parameters.rotary
    assert weights - beside == pytest.approx(expected["weights_bytes"], rel=5e-3)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_token_takes(name: str) -> None:
    """Exactly, and by what each layer keeps."""
    facts, expected = facts_of(name), EXPECTED[name]
    counted = facts.counted

    assert facts.kv_bytes_per_token == expected["kv_bytes_per_token"]
    assert (counted[Kind.FULL], counted[Kind.SLIDING], counted[Kind.STATE]) == (
        expected["full_layers"],
        expected["sliding_layers"],
        expected["state_layers"],
    )
    if counted[Kind.SLIDING]:
        assert facts.window == expected["sliding_window"]


@pytest.mark.parametrize("name", [name for name, one in EXPECTED.items() if "state_bytes_per_sequence" in one])
def test_what_a_state_takes(name: str) -> None:
    """Of one sequence, over all layers."""
    facts = facts_of(name)

    assert facts.state_bytes is not None
    assert facts.state_bytes * facts.counted[Kind.STATE] == EXPECTED[name]["state_bytes_per_sequence"]


@pytest.mark.parametrize("name", [name for name, one in EXPECTED.items() if "max_model_len" in one])
def test_the_longest_context(name: str) -> None:
    """As vLLM derives it; where a configuration has none, vLLM takes 2048."""
    assert (facts_of(name).max_model_len or 2048) == EXPECTED[name]["max_model_len"]


@pytest.mark.parametrize("name", [name for name, one in EXPECTED.items() if "kv_heads" in one])
def test_heads(name: str) -> None:
    """Of keys and values, and their size."""
    facts = facts_of(name)

    found = (1, facts.latent_dim) if facts.latent_dim else (facts.kv_heads or 0, facts.head_dim or 0)
    assert found == (EXPECTED[name]["kv_heads"], EXPECTED[name]["head_dim"])


@pytest.mark.parametrize("name", EXPECTED)
def test_a_cache_can_be_laid_out(name: str) -> None:
    """For one GPU and for eight."""
    assert lay_out(facts_of(name), in_flight=8192) is not None
    assert lay_out(facts_of(name), in_flight=8192, tensor_parallel=8, pipeline_parallel=2) is not None
