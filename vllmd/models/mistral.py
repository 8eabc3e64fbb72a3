"""Mistral's own form of a configuration, `params.json`, in the words of `config.json`.

As vLLM 0.25.1 puts it (`transformers_utils/configs/mistral.py`), as far as facts are read from it. Models that hear,
whose encoder it describes as well, are taken for their language model alone.
"""

from __future__ import annotations

from typing import Any

from vllmd.models.fields import Config, boolean, inner, integer
from vllmd.models.layers import MOST_LAYERS

_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "tied_embeddings": "tie_word_embeddings",
}
_OF_EXPERTS = {
    "num_experts": "n_routed_experts",
    "num_experts_per_tok": "num_experts_per_tok",
    "num_shared_experts": "n_shared_experts",
    "expert_hidden_dim": "moe_intermediate_size",
    "first_k_dense_replace": "first_k_dense_replace",
    "route_every_n": "moe_layer_freq",
}
_LONGEST = 128_000
"""What vLLM takes for the longest context where the file names none."""


def as_config(params: Config) -> dict[str, Any]:
    """Put a parsed `params.json` as a `config.json`."""
    config = {_NAMES.get(name, name): value for name, value in params.items()}
    config.setdefault("tie_word_embeddings", boolean(params, "tied_embeddings"))
    config.setdefault("max_position_embeddings", integer(params, "max_seq_len") or _LONGEST)
    config["model_type"], config["architectures"] = "mistral", ["MistralForCausalLM"]
    if experts := inner(params, "moe"):
        config |= {new: experts[old] for old, new in _OF_EXPERTS.items() if old in experts}
        config["model_type"], config["architectures"] = "mixtral", ["MixtralForCausalLM"]
        if integer(experts, "num_shared_experts"):
            config["model_type"], config["architectures"] = "deepseek_v3", ["MistralLarge3ForCausalLM"]
    if yarn := inner(params, "yarn"):
        config["rope_parameters"] = {"rope_type": "yarn", **yarn}
    if inner(params, "quantization"):
        config["quantization_config"] = {"quant_method": "fp8"}
    return _with_layers(config) | _seeing(params)


def _with_layers(config: dict[str, Any]) -> dict[str, Any]:
    """Spell out a pattern of windows, such as `[null, 4096]`, layer by layer."""
    windows, layers = config.get("sliding_window"), integer(config, "num_hidden_layers")
    if not isinstance(windows, list) or not windows or layers is None or layers % len(windows) or layers > MOST_LAYERS:
        return config
    kinds = ["full_attention" if window is None else "sliding_attention" for window in windows]
    widths = [window for window in windows if window is not None]
    window = widths[0] if widths else None
    return config | {"layer_types": kinds * (layers // len(windows)), "sliding_window": window}


def _seeing(params: Config) -> dict[str, Any]:
    encoder = inner(params, "vision_encoder") or inner(inner(params, "multimodal"), "vision_encoder_args")
    return {"vision_config": dict(encoder)} if encoder else {}
