from __future__ import annotations

import dataclasses

import pytest

from tests.fakes.models import facts as facts_of
from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind
from vllmd.models.quantization import Quantization
from vllmd.planner.division import obstacle
from vllmd.planner.parallel import refusal, sizes

QWEN_1_5B = ModelFacts(
    attention_heads=12, kv_heads=2, head_dim=128, hidden_size=1536, intermediate_size=8960, vocabulary=151_936
)
"""Qwen2.5 1.5B."""
LLAMA_13B = ModelFacts(
    attention_heads=40, kv_heads=40, head_dim=128, hidden_size=5120, intermediate_size=13_824, vocabulary=32_000
)
AWQ_14B = ModelFacts(
    attention_heads=40, kv_heads=8, head_dim=128, hidden_size=5120, intermediate_size=13_824, vocabulary=152_064,
    quantization=Quantization("awq", 4, 128),
)  # fmt: skip
FP8_4B = ModelFacts(
    attention_heads=32, kv_heads=8, head_dim=128, hidden_size=2560, intermediate_size=9728, vocabulary=151_936,
    quantization=Quantization("fp8", 8, blocks=True),
)  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "gpus", "why"),
    [
        (QWEN_1_5B, 3, "heads of keys and values"),
        (QWEN_1_5B, 6, "vocabulary"),
        (dataclasses.replace(QWEN_1_5B, vocabulary=None), 6, "8960 columns"),
        (LLAMA_13B, 5, "13824 columns"),
        (AWQ_14B, 8, "1728 of 13824 columns on each GPU, which are no whole groups of 128"),
        (FP8_4B, 8, "1216 of 9728 columns on each GPU, which are no whole blocks of 128"),
        (dataclasses.replace(FP8_4B, intermediate_size=8192, head_dim=64), 8, "of keys and values of 64"),
        (dataclasses.replace(FP8_4B, intermediate_size=4096, head_dim=48), 8, "4 attention heads of 48"),
        (ModelFacts(kinds=(Kind.STATE,) * 24, hidden_size=768, vocabulary=50_280), 5, "vocabulary"),
        (ModelFacts(kinds=(Kind.STATE,) * 24, hidden_size=2560, vocabulary=50_280), 3, "2560 columns"),
    ],
)
def test_what_vllm_would_end_at_is_said(facts: ModelFacts, gpus: int, why: str) -> None:
    """Each of these ends a start of vLLM 0.25.1 after a minute, and the heads alone do not tell."""
    found = obstacle(facts, gpus)

    assert found is not None
    assert why in found


@pytest.mark.parametrize("name", ["llama-3.3-70b", "qwen3-8b-fp8", "deepseek-v3", "qwen3-next-80b-a3b", "gpt-oss-20b"])
def test_models_go_on_as_many_gpus_as_hosts_have(name: str) -> None:
    """What is known to run on two, four and eight is not kept from them."""
    assert sizes(facts_of(name), 8) == [1, 2, 4, 8]


@pytest.mark.parametrize("facts", [QWEN_1_5B, LLAMA_13B, AWQ_14B, FP8_4B])
def test_one_gpu_divides_nothing(facts: ModelFacts) -> None:
    """Whatever the sizes are."""
    assert obstacle(facts, 1) is None


def test_a_size_that_was_set_is_refused_for_any_of_them() -> None:
    """With the sizes that work."""
    found = refusal(8, AWQ_14B)

    assert found is not None
    assert found.invalid
    assert found.message.endswith("no whole groups of 128: it can be 1, 2, 4.")
