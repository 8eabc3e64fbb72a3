from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.fake_gpus import gpu
from tests.fakes.models import asked, facts, planned
from vllmd.gpu import products
from vllmd.models.facts import ModelFacts
from vllmd.models.quantization import Quantization
from vllmd.planner.choice import Draft, Infeasible
from vllmd.planner.precision import ONLINE, Precision, settle

LLAMA = facts("llama-3.1-8b")


def settled(host: str, model: str | ModelFacts | None = LLAMA, **values: Any) -> tuple[Draft, Precision | Infeasible]:
    draft = Draft()
    for name, value in values.items():
        draft.choose(name, value, "client", "set by the client")
    known = facts(model) if isinstance(model, str) else model
    return draft, settle(draft, known, products.parse(host))


def precision(host: str, model: str | ModelFacts | None = LLAMA, **values: Any) -> Precision:
    found = settled(host, model, **values)[1]
    assert isinstance(found, Precision), found
    return found


def refused(host: str, model: str | ModelFacts | None = LLAMA, **values: Any) -> Infeasible:
    found = settled(host, model, **values)[1]
    assert isinstance(found, Infeasible)
    assert found.forever
    return found


@pytest.mark.parametrize(("host", "dtype"), [("1xT4", "float16"), ("2xV100", "float16"), ("1xRTX3090", None)])
def test_gpus_without_bfloat16_get_float16(host: str, dtype: str | None) -> None:
    """vLLM would refuse such a model; on newer GPUs its own choice stands."""
    draft, found = settled(host)

    assert draft.get("dtype") == dtype
    assert isinstance(found, Precision)
    assert found.plain_bytes == (2 if dtype else None)


@pytest.mark.parametrize(("host", "model"), [("1xT4", None), ("1xT4", "opt-125m"), ("1xH100", "llama-3.1-8b")])
def test_a_dtype_is_chosen_only_where_it_has_to_be(host: str, model: str | None) -> None:
    """A model in float16 stays so, and of an unknown one nothing is assumed."""
    assert "dtype" not in settled(host, model)[0]


def test_gpus_whose_capability_is_unknown_are_refused_nothing() -> None:
    """vLLM has the last word on them."""
    wanted = {"dtype": "bfloat16", "quantization": "fp8", "attention_backend": "FLASH_ATTN"}
    draft = Draft()
    for name, value in wanted.items():
        draft.choose(name, value, "client", "set by the client")

    assert isinstance(settle(draft, LLAMA, (gpu(),)), Precision)


def test_the_oldest_gpu_decides() -> None:
    """Of those that tell what they are."""
    assert settled("1xH100,1xT4")[0].get("dtype") == "float16"


@pytest.mark.parametrize(
    ("host", "values", "message"),
    [
        ("1xT4", {"dtype": "bfloat16"}, "needs compute capability 8.0, and these GPUs have 7.5; float16 works."),
        ("1xT4", {"dtype": "torch.bfloat16"}, "float16 works."),
        ("1xH100", {"dtype": "bfloat17"}, "the nearest is bfloat16."),
        ("1xH100", {"dtype": 16}, "vLLM has none of that name; the nearest is"),
        ("1xT4", {"kv_cache_dtype": "fp8"}, "needs compute capability 8.0, and these GPUs have 7.5; auto works."),
        ("1xV100", {"kv_cache_dtype": "bfloat16"}, "float16 works."),
        ("1xT4", {"attention_backend": "FLASH_ATTN"}, "TRITON_ATTN works."),
        ("2xV100", {"attention_backend": "FLASHINFER"}, "TRITON_ATTN works."),
        ("1xT4", {"attention_backend": "flash_attn"}, "TRITON_ATTN works."),
        ("2xV100", {"kv_cache_dtype": "fp8"}, "needs compute capability 8.0, and these GPUs have 7.0; auto works."),
        ("1xT4", {"kv_cache_dtype": "bfloat16"}, "float16 works."),
        ("1xRTX3090", {"kv_cache_dtype": "fp8_per_token_head"}, "needs compute capability 8.9"),
        ("1xRTX3090", {"kv_cache_dtype": "fp8", "attention_backend": "TRITON_ATTN"}, "8.9 with TRITON_ATTN"),
        ("1xRTX4090", {"kv_cache_dtype": "fp8", "attention_backend": "FLASH_ATTN"}, "FLASHINFER has."),
        ("1xH100", {"kv_cache_dtype": "fp8_e5m2", "attention_backend": "FLASH_ATTN"}, "FLASHINFER has."),
        ("1xH100", {"kv_cache_dtype": "pf8"}, "vLLM has none of that name; the nearest is fp8."),
        ("1xH100", {"attention_backend": "flash_atn"}, "vLLM has none of that name; the nearest is FLASH_ATTN."),
        ("1xH100", {"kv_cache_dtype": "nvfp4"}, "needs compute capability 10.0"),
        ("1xH100", {"quantization": "awq"}, "can't do it while loading; it can do"),
        ("1xH100", {"quantization": "fp9"}, "it can do fp8."),
    ],
)
def test_what_can_not_work_is_refused_with_what_does(host: str, values: dict[str, Any], message: str) -> None:
    """At once, where vLLM would say so after half a minute."""
    found = refused(host, **values)

    assert found.invalid
    assert found.reason == "INVALID_ENGINE_ARG"
    assert message in found.message


@pytest.mark.parametrize(
    ("host", "model", "values", "invalid"),
    [
        ("2xV100", "qwen3-8b-fp8", {}, False),
        ("2xV100", "llama-3.1-8b-fp8", {}, False),
        ("2xV100", "qwen2.5-7b-awq", {"quantization": "awq"}, True),
        ("1xT4", "gpt-oss-20b", {}, False),
        ("2xV100", "llama-3.1-8b", {"quantization": "fp8"}, True),
    ],
)
def test_gpus_too_old_for_how_a_model_is_packed_are_told(
    host: str, model: str, values: dict[str, Any], invalid: bool
) -> None:
    """It is the caller's mistake only if the packing was asked for."""
    found = refused(host, model, **values)

    assert (found.reason, found.invalid) == ("GPU_UNSUPPORTED", invalid)
    assert found.message.endswith("load a variant of the model that is not quantized like that.")


@pytest.mark.parametrize(
    ("model", "method"),
    [("qwen2.5-7b-awq", "awq_marlin"), ("qwen2.5-7b-gptq-int4", "gptq_marlin"), ("qwen3-8b-fp8", "fp8")],
)
def test_methods_that_read_each_others_checkpoints_may_be_asked_for(model: str, method: str) -> None:
    """The weights stay as the files have them."""
    found = precision("1xH100", model, quantization=method)

    assert found.is_stored
    assert found.facts == facts(model)


def test_another_method_than_the_checkpoints_is_refused() -> None:
    """Nothing packs again what is packed."""
    found = refused("1xH100", "qwen2.5-7b-awq", quantization="fp8")

    assert "the checkpoint is packed by awq: leave it open, or take that." in found.message


@pytest.mark.parametrize("method", sorted(ONLINE))
def test_what_is_packed_while_it_is_loaded_is_reckoned_so(method: str) -> None:
    """The files have it unpacked."""
    found = precision("1xH100", quantization=method)
    assert found.facts is not None

    assert found.facts.quantization == ONLINE[method]
    assert not found.is_stored


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({}, 2.0),
        ({"kv_cache_dtype": "auto"}, 2.0),
        ({"kv_cache_dtype": None}, 2.0),
        ({"kv_cache_dtype": "fp8"}, 1.0),
        ({"kv_cache_dtype": "fp8_e5m2"}, 1.0),
        ({"kv_cache_dtype": "int4_per_token_head"}, 0.5),
        ({"dtype": "float32"}, 4.0),
        ({"dtype": "float32", "kv_cache_dtype": "bfloat16"}, 2.0),
        ({"kv_cache_dtype": "turboquant_k8v4"}, None),
    ],
)
def test_the_cache_is_reckoned_by_its_type(values: dict[str, Any], size: float | None) -> None:
    """That of the weights, unless it has its own; of a type nobody knows nothing is assumed."""
    assert precision("1xH100", **values).cache_bytes == size


def test_a_cache_of_an_unknown_type_leaves_the_context_to_vllm() -> None:
    """Rather than refusing what it can do."""
    found = planned(asked("1xRTX3090", client={"kv_cache_dtype": "turboquant_k8v4"}))

    assert found.engine_args["max_model_len"] == -1
    assert found.memory is None


def test_a_packing_of_which_nothing_is_known_is_kept() -> None:
    """The checkpoint may be of a method that came later."""
    odd = dataclasses.replace(facts("qwen2.5-7b-awq").quantization or ONLINE["fp8"], method="unknown")

    assert precision("1xH100", dataclasses.replace(LLAMA, quantization=odd), quantization="awq").is_stored


@pytest.mark.parametrize(
    ("host", "values"),
    [
        ("1xRTX3090", {"kv_cache_dtype": "fp8"}),
        ("1xRTX4090", {"kv_cache_dtype": "fp8_e5m2", "attention_backend": "TRITON_ATTN"}),
        ("1xH100", {"kv_cache_dtype": "fp8", "attention_backend": "FLASH_ATTN"}),
    ],
)
def test_caches_of_fp8_are_had_where_a_backend_has_them(host: str, values: dict[str, Any]) -> None:
    """FlashInfer from Ampere on, Triton from Ada on, FlashAttention on Hopper."""
    draft = Draft()
    for name, value in values.items():
        draft.choose(name, value, "client", "set by the client")

    assert isinstance(settle(draft, LLAMA, products.inventory(host).gpus), Precision)


def test_what_modelopt_packs_in_fp8_needs_ada() -> None:
    """Unlike vLLM's own FP8, which older GPUs unpack."""
    packed = dataclasses.replace(LLAMA, quantization=Quantization("modelopt", 8))

    found = settle(Draft(), packed, products.inventory("1xRTX3090").gpus)

    assert isinstance(found, Infeasible)
    assert found.reason == "GPU_UNSUPPORTED"
    assert isinstance(settle(Draft(), packed, products.inventory("1xRTX4090").gpus), Precision)
