"""What a configuration leaves to the defaults of its class, where published models do so.

Facts of `transformers`' configuration classes: a file holds only what differs from them.
"""

from __future__ import annotations

from typing import Any

BY_MODEL_TYPE: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
    },
    "nemotron_h": {"mamba_ssm_cache_dtype": "float32"},  # vLLM's own, of `models/config.py`
}
"""By `model_type`."""
