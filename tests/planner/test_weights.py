from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.models import facts as facts_of
from vllmd.models.facts import ModelFacts, read
from vllmd.planner.weights import adapter_bytes, bytes_on_each

GIB = 1 << 30
CONFIG = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 128256, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip
LLAMA_8B = read(CONFIG)


def weight(facts: ModelFacts, **options: Any) -> int:
    """Weigh, and expect that it can be."""
    found = bytes_on_each(facts, **options)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "rank", "slots", "gib"),
    [("llama-3.2-1b", 64, 4, 2.78 - 2.32), ("llama-3.1-8b", 32, 8, 16.41 - 15.00)],
)
def test_slots_for_adapters_take_what_was_measured(model: str, rank: int, slots: int, gib: float) -> None:
    """vLLM 0.25.1, by what it said of its weights with and without: embedding and output layer have slots, too."""
    assert adapter_bytes(facts_of(model), rank, slots) / GIB == pytest.approx(gib, rel=0.03)


def test_one_gpu_holds_all() -> None:
    """Llama 3.1 8B: 16.06 GB, as its files."""
    assert weight(LLAMA_8B) == 2 * 8_030_261_248


def test_more_gpus_hold_less_each() -> None:
    """But norms are on each, and keys and values can't be divided further than there are heads of them."""
    whole = weight(LLAMA_8B)

    assert weight(LLAMA_8B, tensor_parallel=2) == pytest.approx(whole / 2, rel=1e-3)
    assert weight(LLAMA_8B, tensor_parallel=16) > whole / 16 * 1.02


def test_the_ends_of_a_pipeline_hold_the_vocabulary() -> None:
    """Half of the layers, and one of embedding and output layer."""
    vocabulary = 2 * 128256 * 4096

    assert weight(LLAMA_8B, pipeline_parallel=2) == (weight(LLAMA_8B) - 2 * vocabulary) // 2 + vocabulary


@pytest.mark.parametrize(
    ("quantization", "size"),
    [
        ({"quant_method": "fp8"}, 9.08e9),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 5.93e9),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 5.73e9),
    ],
)
def test_packed_weights_take_less(quantization: dict[str, Any], size: float) -> None:
    """Embeddings and norms stay as they are: the published files of these models have these sizes, but AWQ's are
    200 MB larger once they are loaded."""
    assert weight(read(CONFIG | {"quantization_config": quantization})) == pytest.approx(size, rel=0.01)


def test_files_correct_what_was_counted() -> None:
    """A little: biases, say. Twice as much is another dtype on the disk, and 16 bits are loaded all the same."""
    little = dataclasses.replace(LLAMA_8B, weight_bytes=int(2 * 8_030_261_248 * 1.01))
    twice = dataclasses.replace(LLAMA_8B, weight_bytes=4 * 8_030_261_248)

    assert weight(little) == pytest.approx(weight(LLAMA_8B) * 1.01, rel=1e-6)
    assert weight(twice) == weight(LLAMA_8B)


def test_files_alone_will_do() -> None:
    """Of a model whose configuration lacks a size; with neither nothing is known."""
    assert weight(ModelFacts(weight_bytes=16 * GIB), tensor_parallel=2) == 8 * GIB
    assert bytes_on_each(ModelFacts()) is None


def test_a_packing_that_nobody_knows_is_as_large_as_its_files() -> None:
    """Or of unknown size."""
    packed = read(CONFIG | {"quantization_config": {"quant_method": "wormhole"}}, weight_bytes=5 * GIB)

    assert weight(packed) == 5 * GIB
    assert bytes_on_each(dataclasses.replace(packed, weight_bytes=None)) is None


def test_replicas_share_experts_out() -> None:
    """DeepSeek V3 on eight GPUs as eight replicas, the usual way: each has all of the attention, and 32 experts."""
    whole = facts_of("deepseek-v3")
    counted = whole.parameters
    assert counted is not None

    assert weight(whole) - weight(whole, data_parallel=8) == pytest.approx(counted.experts * 7 / 8, rel=0.01)
    assert weight(LLAMA_8B, data_parallel=8) == weight(LLAMA_8B)
