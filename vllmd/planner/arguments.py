"""Which of vLLM's engine arguments a client may set by name.

Nothing from a client is trusted, and vLLM gains arguments with every version, so this is a list of what is
known to be harmless rather than of what is known to be dangerous. The host's configuration can add to it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping

from vllmd.errors import InvalidRequest
from vllmd.planner import numbers

HARMLESS = frozenset(
    {
        "async_scheduling", "attention_backend", "block_size", "calculate_kv_scales", "cpu_offload_gb",
        "cudagraph_capture_sizes", "data_parallel_size", "disable_cascade_attn", "disable_chunked_mm_input",
        "disable_custom_all_reduce", "disable_hybrid_kv_cache_manager", "disable_log_stats",
        "disable_sliding_window", "dtype", "enable_chunked_prefill", "enable_dbo", "enable_expert_parallel",
        "enable_lora", "enable_prefix_caching", "enable_prompt_embeds", "enable_return_routed_experts",
        "enable_sleep_mode", "enforce_eager", "fully_sharded_loras", "generation_config",
        "gpu_memory_utilization", "kv_cache_dtype", "kv_cache_memory_bytes", "kv_offloading_size",
        "language_model_only", "limit_mm_per_prompt", "load_format", "long_prefill_token_threshold",
        "max_cpu_loras", "max_cudagraph_capture_size", "max_logprobs", "max_lora_rank", "max_loras",
        "max_model_len", "max_num_batched_tokens", "max_num_queued_reqs", "max_num_queued_tokens",
        "max_num_seqs", "max_parallel_loading_workers", "mm_processor_cache_gb", "num_gpu_blocks_override",
        "optimization_level", "override_generation_config", "performance_mode", "pipeline_parallel_size",
        "prefix_caching_hash_algo", "quantization", "runner", "convert", "scheduling_policy",
        "seed", "skip_mm_profiling", "skip_tokenizer_init", "stream_interval", "tensor_parallel_size",
        "tokenizer_mode", "tokenizer_revision",
    }
)  # fmt: skip
"""What only sizes, tunes or switches something that is inside vLLM already."""

SIZING = frozenset(
    {
        "async_scheduling", "block_size", "cpu_offload_gb", "cudagraph_capture_sizes", "data_parallel_size",
        "disable_custom_all_reduce", "disable_log_stats", "enable_chunked_prefill", "enable_expert_parallel",
        "enable_prefix_caching", "enable_sleep_mode", "enforce_eager", "gpu_memory_utilization",
        "kv_cache_memory_bytes", "kv_offloading_size", "long_prefill_token_threshold", "max_cudagraph_capture_size",
        "max_num_batched_tokens", "max_num_seqs", "max_parallel_loading_workers", "mm_processor_cache_gb",
        "num_gpu_blocks_override", "optimization_level", "performance_mode", "pipeline_parallel_size",
        "scheduling_policy", "stream_interval", "tensor_parallel_size",
    }
)  # fmt: skip
"""What decides how much and how fast an engine serves, and nothing of what it answers: who leaves it open may share
an engine that somebody else has sized. Anything else that one client set, another has to ask for to get it."""

LOAD_FORMATS = frozenset(
    {"auto", "pt", "safetensors", "dummy", "sharded_state", "fastsafetensors", "mistral", "bitsandbytes"}
)
"""vLLM's own weight loaders; any other name may be a plugin's. `npcache` writes files where the checkpoint says."""

GENERATION_CONFIGS = frozenset({"auto", "vllm"})
"""Where defaults for sampling come from; anything else is a directory."""

_OF_HOSTS = frozenset({"download_dir", "hf_config_path", "hf_token", "served_model_name", "tokenizer"})
"""What is a host's to set, and neither harmless nor code."""

_RUNS_CODE = {
    "trust_remote_code": "it runs code that comes with the model",
    "worker_cls": "it imports a class by name",
    "worker_extension_cls": "it imports a class by name",
    "scheduler_cls": "it imports a class by name",
    "hf_overrides": "it can point the model at other code",
    "distributed_executor_backend": "it imports a class by name",
    "logits_processors": "it imports code by name",
    "compilation_config": "it can name code to import",
    "kv_transfer_config": "it imports a connector by name",
    "ec_transfer_config": "it imports a connector by name",
    "io_processor_plugin": "it loads a plugin",
    "logging_config": "it can call anything",
    "model_loader_extra_config": "it is passed to a loader unchecked",
    "additional_config": "it is passed to the platform unchecked",
    "structured_outputs_config": "it can load a plugin from a file",
    "speculative_config": "it loads a second model with settings of its own",
}


def check(names: Iterable[str], allowed: Collection[str] = ()) -> None:
    """Refuse arguments that a client may not set.

    Args:
        names: what the client set.
        allowed: what the host's configuration allows beyond `HARMLESS`.

    Raises:
        InvalidRequest: `ENGINE_ARG_REFUSED`, with why and the nearest name that is allowed.
    """
    for name in names:
        if name in HARMLESS or name in allowed:
            continue
        if name in ("model", "revision"):
            raise _refused(name, f"the {name} has a field of its own")
        if name in _RUNS_CODE:
            raise _refused(name, f"{_RUNS_CODE[name]}; this host has to allow it with --allow-engine-arg {name}")
        nearest = difflib.get_close_matches(name, HARMLESS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"a host can allow it with --allow-engine-arg {name}"
        raise _refused(name, f"it is not among those known to be harmless; {hint}")


def check_values(arguments: Mapping[str, object], allowed: Collection[str] = ()) -> None:
    """Refuse values of harmless arguments that would load something by name or path, or that no plan can use.

    Raises:
        InvalidRequest: `ENGINE_ARG_REFUSED`, or `INVALID_ENGINE_ARG` for a value that makes no sense.
    """
    for name, values in (("load_format", LOAD_FORMATS), ("generation_config", GENERATION_CONFIGS)):
        value = arguments.get(name)
        known = value is None or (isinstance(value, str) and value in values)
        if not known and name not in allowed:
            raise _refused(name, f"{value!r} is none of {', '.join(sorted(values))}")
    odd = numbers.odd(arguments)
    if odd is not None:
        name, rule = odd
        message = f"Engine argument {name} must be {rule}, not {arguments[name]!r}."
        raise InvalidRequest("INVALID_ENGINE_ARG", message, argument=name, value=repr(arguments[name]))


def check_host(arguments: Mapping[str, object], allowed: Collection[str] = ()) -> None:
    """Refuse what a host can't set for its engines: names that nobody knows, and values that no plan can use.

    What could run code is the host's own to set.

    Raises:
        InvalidRequest: as `check` and `check_values` do.
    """
    own = {*allowed, *_RUNS_CODE, *_OF_HOSTS, "load_format", "generation_config"}
    check(arguments, own)
    check_values(arguments, own)


def _refused(name: str, why: str) -> InvalidRequest:
    stop = "" if why.endswith("?") else "."
    return InvalidRequest("ENGINE_ARG_REFUSED", f"Engine argument {name} is refused: {why}{stop}", argument=name)
