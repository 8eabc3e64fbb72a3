from __future__ import annotations

import pytest

from vllmd.engines.known_errors import recognize

FREE = (
    "Free memory on device cuda:0 (11.5/23.5 GiB) on startup is less than desired GPU memory utilization "
    "(0.92, 21.62 GiB). Decrease"
)
LONG = (
    "User-specified max_model_len (9000) is greater than the derived max_model_len "
    "(max_position_embeddings=2048.0 or model_max_length=None in model's config.json)."
)
OLD_GPU = (
    "The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. Current capability: 75."
)
KV = (
    "To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is needed, which is "
    "larger than the available KV cache memory (9.2 GiB). Based on the available memory, the estimated maximum model "
    "length is 75000. Try increasing `gpu_memory_utilization`"
)

WARM = (
    "CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try lowering `max_num_seqs`"
)
OLD_TYPE = (
    "Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute "
    "capability 7.5. You can use float16"
)
SHORT_TOKENIZER = (
    "User-specified max_model_len (9000) is greater than the derived max_model_len "
    "(max_position_embeddings=None or model_max_length=512 in model's config.json)."
)
NO_OPERATOR = "'_OpNamespace' '_C' object has no attribute"


@pytest.mark.parametrize(
    ("text", "reason", "numbers", "hint"),
    [
        (
            FREE,
            "GPU_MEMORY_EXHAUSTED",
            {"free_gib": "11.5", "total_gib": "23.5", "gpu_memory_utilization": "0.92", "wanted_gib": "21.62"},
            "Lower gpu_memory_utilization",
        ),
        (
            "OSError: [Errno 28] No space left on device: '/var/cache/vllmd/hub/blobs/x'",
            "DISK_FULL",
            {"path": "/var/cache/vllmd/hub/blobs/x"},
            "Make room",
        ),
        ("unable to write to file </torch_1>: No space left on device (28)", "DISK_FULL", {}, "Make room"),
        (
            KV,
            "KV_CACHE_TOO_SMALL",
            {
                "max_model_len": "131072",
                "needed_gib": "16.0",
                "available_gib": "9.2",
                "longest_max_model_len": "75000",
            },
            "max_model_len=75000 would fit",
        ),
        (
            "To serve at least one request with the models's max seq len (131072), (16.0 GiB KV cache is needed",
            "KV_CACHE_TOO_SMALL",
            {"max_model_len": "131072", "needed_gib": "16.0"},
            "Lower max_model_len",
        ),
        (
            "Total number of attention heads (12) must be divisible by tensor parallel size (8).",
            "INVALID_ENGINE_ARG",
            {"attention_heads": "12", "tensor_parallel_size": "8"},
            "tensor_parallel_size can be 1, 2, 3, 4, 6, 12.",
        ),
        (
            LONG,
            "INVALID_ENGINE_ARG",
            {"max_model_len": "9000", "model_max_len": "2048"},
            "At most 2048 is possible.",
        ),
        (
            OLD_GPU,
            "GPU_UNSUPPORTED",
            {"needed_capability": "89", "capability": "75"},
            "",
        ),
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", "GPU_MEMORY_EXHAUSTED", {"wanted_gib": "2.00"}, "Lower"),
        ("torch.OutOfMemoryError", "GPU_MEMORY_EXHAUSTED", {}, "Lower"),
        (WARM, "GPU_MEMORY_EXHAUSTED", {"dummy_requests": "1024"}, "Lower max_num_seqs from 1024"),
        (OLD_TYPE, "GPU_UNSUPPORTED", {"needed_capability": "8.0", "capability": "7.5"}, ""),
        (SHORT_TOKENIZER, "INVALID_ENGINE_ARG", {"max_model_len": "9000", "tokenizer_max_len": "512"}, ""),
        ("503 Server Error: Service Unavailable", "MODEL_UNAVAILABLE", {"http_status": "503"}, "The hub"),
        (
            "LoRA adapter 'sql' can't be loaded: it is odd",
            "INVALID_LORA",
            {"lora": "sql"},
            "So vLLM says of LoRA adapter sql",
        ),
        ("MambaForCausalLM does not support LoRA yet.", "LORA_UNSUPPORTED", {"architecture": "MambaForCausalLM"}, ""),
        (f"{NO_OPERATOR} 'x'", "VLLM_BROKEN", {}, "vLLM's compiled part did not load: a library is missing"),
    ],
)
def test_numbers_are_taken_out_and_lead_to_what_would_work(
    text: str, reason: str, numbers: dict[str, str], hint: str
) -> None:
    """A program gets the numbers, a person what to do."""
    found = recognize(f"ValueError: {text}")

    assert found is not None
    assert found.reason == reason
    assert dict(found.numbers) == numbers
    assert found.hint.startswith(hint)


def test_the_library_that_vllm_lacks_is_named_from_what_it_warned_of_before() -> None:
    """The error itself only misses an operator; however long the log is, that takes no time."""
    warning = "Failed to import from vllm._C: ImportError('libnuma.so.1: cannot open shared object file: No such file')"
    log = "\n".join(
        ["WARNING 01-01 [cpu.py:645] " + warning, *["INFO nothing"] * 2000, f"AttributeError: {NO_OPERATOR}"]
    )
    found = recognize(f"AttributeError: {NO_OPERATOR} 'init_cpu_threads_env'", log)

    assert found is not None
    assert (found.reason, found.numbers) == ("VLLM_BROKEN", (("library", "libnuma.so.1"),))
    assert "libnuma.so.1 is missing" in found.hint
    assert recognize(warning, "AssertionError: something else") is None


def test_what_nobody_has_seen_yet_is_not_guessed() -> None:
    """It is told as it is."""
    assert recognize("AssertionError: something new") is None
