from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts, read
from vllmd.planner.choice import Choice, Infeasible
from vllmd.planner.context import longest

CONFIG = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 128256, "tie_word_embeddings": False,
    "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
}  # fmt: skip
LLAMA_8B = read(CONFIG)


def chosen(facts: ModelFacts | None, gpus: list[Gpu], size: int = 1, **arguments: Any) -> Any:
    """The context's length."""
    found = longest(arguments, facts, gpus, 0.9, size)
    assert isinstance(found, Choice)
    return found.value


def test_the_models_own_where_it_fits() -> None:
    """And no more."""
    assert chosen(LLAMA_8B, [gpu()]) == 131072


def test_what_fits_where_that_is_less() -> None:
    """More tokens at once leave less for it, and a second GPU leaves more."""
    small = [gpu(total=24 * GIB)]
    usual = chosen(LLAMA_8B, small, max_num_batched_tokens=2048, max_num_seqs=256)
    busy = chosen(LLAMA_8B, small, max_num_batched_tokens=16384, max_num_seqs=256)

    assert 10_000 < busy < usual < 131072
    assert chosen(LLAMA_8B, [*small, gpu(1, total=24 * GIB)], size=2) == 131072


def test_layers_that_slide_leave_room() -> None:
    """Of the same model, had it a window: only one of six layers would keep every token."""
    window = read(CONFIG | {"sliding_window": 1024, "sliding_window_pattern": 6})

    assert chosen(window, [gpu(total=24 * GIB)], max_num_batched_tokens=2048) > 2 * chosen(
        LLAMA_8B, [gpu(total=24 * GIB)], max_num_batched_tokens=2048
    )


def test_the_client_decides_if_it_has() -> None:
    """Where it is about what fits, the last word is vLLM's."""
    fits = chosen(LLAMA_8B, [gpu(total=24 * GIB)])

    assert longest({"max_model_len": 7}, LLAMA_8B, [gpu()], 0.9, 1) is None
    assert longest({"max_model_len": int(fits * 1.09)}, LLAMA_8B, [gpu(total=24 * GIB)], 0.9, 1) is None
    assert longest({"max_model_len": "nonsense"}, LLAMA_8B, [gpu()], 0.9, 1) is None


def test_a_context_that_does_not_fit_is_refused_with_one_that_does() -> None:
    """At once: vLLM would say so after a minute."""
    found = longest({"max_model_len": 131072}, LLAMA_8B, [gpu(total=24 * GIB)], 0.9, 1)

    assert isinstance(found, Infeasible)
    assert (found.reason, found.invalid) == ("KV_CACHE_TOO_SMALL", True)
    assert found.numbers["needed_bytes"] == 16 * GIB
    assert found.numbers["longest_max_model_len"] == chosen(LLAMA_8B, [gpu(total=24 * GIB)])
    assert f"max_model_len={found.numbers['longest_max_model_len']} would fit" in found.message


def test_a_context_for_which_others_are_in_the_way_may_fit_later() -> None:
    """Then the client is told to try again."""
    found = longest({"max_model_len": 131072}, LLAMA_8B, [gpu()], 0.3, 1)

    assert isinstance(found, Infeasible)
    assert (found.reason, found.forever, found.invalid) == ("GPU_MEMORY_EXHAUSTED", False, False)


@pytest.mark.parametrize(
    "other", [{"kv_cache_dtype": "fp8"}, {"quantization": "fp8"}, {"cpu_offload_gb": 8}, {"dtype": "float32"}]
)
def test_what_is_not_reckoned_with_is_left_to_vllm(other: dict[str, Any]) -> None:
    """It has more room, or less, than is thought here."""
    assert longest({"max_model_len": 131072, **other}, LLAMA_8B, [gpu(total=24 * GIB)], 0.9, 1) is None
    assert chosen(LLAMA_8B, [gpu(total=12 * GIB)], **other) == -1


@pytest.mark.parametrize("facts", [None, ModelFacts(), ModelFacts(max_model_len=8192)])
def test_what_is_not_known_is_left_to_vllm(facts: ModelFacts | None) -> None:
    """It finds the length when the weights are there."""
    assert chosen(facts, [gpu()]) == -1


def test_no_room_at_all() -> None:
    """The numbers are told, and whether it could ever be."""
    found = longest({}, LLAMA_8B, [gpu(total=24 * GIB)], 0.6, 1)
    never = longest({}, LLAMA_8B, [gpu(total=16 * GIB)], 0.9, 1)

    assert isinstance(found, Infeasible)
    assert isinstance(never, Infeasible)
    assert (found.reason, found.forever) == ("GPU_MEMORY_EXHAUSTED", False)
    assert (never.reason, never.forever) == ("MODEL_TOO_LARGE", True)
    tables = 131_072 * 128  # of rotary embeddings
    assert found.numbers == {"weight_bytes": 2 * (8_030_261_248 + tables), "total_bytes": 24 * GIB}
