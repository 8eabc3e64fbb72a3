from __future__ import annotations

import re
from typing import Any

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts, read
from vllmd.planner.choice import Infeasible
from vllmd.planner.planning import Plan, plan
from vllmd.planner.request import Request

CONFIG = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 128256, "tie_word_embeddings": False,
    "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
}  # fmt: skip
LLAMA_8B = read(CONFIG)
SMALL = gpu(total=24 * GIB)


def planned(facts: ModelFacts | None, *gpus: Gpu, **client: Any) -> Plan | Infeasible:
    """Plan an engine."""
    return plan(Request(client=client, facts=facts, gpus=gpus))


def chosen(facts: ModelFacts | None, *gpus: Gpu, **client: Any) -> Any:
    """The context's length."""
    found = planned(facts, *gpus, **client)
    assert isinstance(found, Plan), found
    return found.engine_args["max_model_len"]


def refused(facts: ModelFacts | None, *gpus: Gpu, **client: Any) -> Infeasible:
    """Why there is no plan."""
    found = planned(facts, *gpus, **client)
    assert isinstance(found, Infeasible), found
    return found


def test_the_models_own_where_it_fits() -> None:
    """And no more."""
    assert chosen(LLAMA_8B, gpu()) == 131072


def test_what_fits_where_that_is_less() -> None:
    """More tokens at once leave less for it, and a second GPU leaves more."""
    usual = chosen(LLAMA_8B, SMALL, max_num_batched_tokens=2048, max_num_seqs=256)
    busy = chosen(LLAMA_8B, SMALL, max_num_batched_tokens=16384, max_num_seqs=256)

    assert 10_000 < busy < usual < 131072
    assert chosen(LLAMA_8B, SMALL, gpu(1, total=24 * GIB)) == 131072


def test_layers_that_slide_leave_room() -> None:
    """Of the same model, had it a window: only one of six layers would keep every token."""
    window = read(CONFIG | {"sliding_window": 1024, "sliding_window_pattern": 6})

    assert chosen(window, SMALL) > 2 * chosen(LLAMA_8B, SMALL)


def test_a_cache_of_fewer_bits_holds_more() -> None:
    """Twice as much in 8 bits; and weights that are packed while they are loaded leave more as well."""
    usual = chosen(LLAMA_8B, SMALL)

    assert chosen(LLAMA_8B, SMALL, kv_cache_dtype="fp8") == pytest.approx(2 * usual, rel=0.01)
    assert chosen(LLAMA_8B, SMALL, quantization="fp8") > 2 * usual
    assert refused(LLAMA_8B, SMALL, dtype="float32").reason == "MODEL_TOO_LARGE"


def test_what_is_kept_in_main_memory_leaves_room() -> None:
    """Of the weights, as much as the client says."""
    assert chosen(LLAMA_8B, SMALL, cpu_offload_gb=4) > 1.5 * chosen(LLAMA_8B, SMALL)


def test_a_cache_of_a_given_size() -> None:
    """Its bytes are what counts then, and the share only as large as it takes."""
    found = planned(LLAMA_8B, gpu(), kv_cache_memory_bytes=GIB)
    assert isinstance(found, Plan)
    assert found.memory is not None

    assert found.engine_args["max_model_len"] == 8192 - 16
    assert found.memory.kv_cache == GIB
    assert 0.2 < found.engine_args["gpu_memory_utilization"] < 0.25


def test_a_context_that_does_not_fit_is_refused_with_one_that_does() -> None:
    """At once: vLLM would say so after a minute."""
    found = refused(LLAMA_8B, SMALL, max_model_len=131072)
    fits = found.numbers["longest_max_model_len"]

    assert (found.reason, found.invalid) == ("KV_CACHE_TOO_SMALL", True)
    assert found.numbers["needed_bytes"] == 16 * GIB
    assert f"max_model_len={fits} would fit" in found.message
    assert chosen(LLAMA_8B, SMALL, max_model_len=fits) == fits
    assert chosen(LLAMA_8B, SMALL) == fits


def test_a_context_longer_than_the_models_is_refused() -> None:
    """With the model's, as vLLM does after half a minute."""
    found = refused(LLAMA_8B, gpu(), max_model_len=131073)

    assert (found.reason, found.invalid) == ("INVALID_ENGINE_ARG", True)
    assert "up to 131072" in found.message


def test_a_context_for_which_others_are_in_the_way_may_fit_later() -> None:
    """Then the client is told to try again."""
    found = refused(LLAMA_8B, gpu(used=50 * GIB), max_model_len=131072)

    assert (found.reason, found.forever, found.invalid) == ("GPU_MEMORY_EXHAUSTED", False, False)


@pytest.mark.parametrize("facts", [None, ModelFacts(), ModelFacts(max_model_len=8192)])
def test_what_is_not_known_is_left_to_vllm(facts: ModelFacts | None) -> None:
    """It finds the length when the weights are there."""
    assert chosen(facts, gpu()) == -1


def test_a_cache_of_a_kind_that_is_not_known_is_left_to_vllm() -> None:
    """It has more room, or less, than is thought here."""
    assert chosen(LLAMA_8B, SMALL, kv_cache_dtype="turboquant") == -1
    assert chosen(LLAMA_8B, SMALL, kv_cache_dtype="turboquant", max_model_len=131072) == 131072


@pytest.mark.parametrize("client", [{}, {"gpu_memory_utilization": 0.9}])
def test_what_would_not_fit_an_empty_gpu_is_not_told_to_wait_for_a_full_one(client: dict[str, Any]) -> None:
    """Whoever stops an engine for it would have done so in vain."""
    full = gpu(total=16 * GIB, used=int(15.8 * GIB))

    assert refused(LLAMA_8B, full, **client).reason == "MODEL_TOO_LARGE"
    assert refused(LLAMA_8B, gpu(total=80 * GIB, used=79 * GIB), **client).reason == "GPU_MEMORY_EXHAUSTED"


@pytest.mark.parametrize(
    ("there", "client"),
    [(gpu(total=16 * GIB), {}), (gpu(total=24 * GIB, used=6 * GIB), {}), (gpu(), {"gpu_memory_utilization": 0.1})],
)
def test_the_sizes_that_are_told_add_up_to_what_is_missing(there: Gpu, client: dict[str, Any]) -> None:
    """Weights, all else, what there is of the GPU for it, and what is missing; the cache itself is some MiB."""
    message = refused(LLAMA_8B, there, **client).message
    weights, rest, has, *_, missing = (float(size) for size in re.findall(r"([\d.]+) GiB", message))

    assert weights + rest - has == pytest.approx(missing, abs=0.3)


def test_no_room_at_all() -> None:
    """The numbers are told, and whether it could ever be."""
    found = refused(LLAMA_8B, gpu(total=24 * GIB, used=6 * GIB))
    never = refused(LLAMA_8B, gpu(total=16 * GIB))

    assert (found.reason, found.forever) == ("GPU_MEMORY_EXHAUSTED", False)
    assert (never.reason, never.forever) == ("MODEL_TOO_LARGE", True)
    tables = 131_072 * 128  # of rotary embeddings
    assert found.numbers["weight_bytes"] == 2 * (8_030_261_248 + tables)
    assert found.numbers["total_bytes"] == 24 * GIB
    assert int(found.numbers["missing_bytes"]) > 0
