from __future__ import annotations

from typing import Any

import pytest

from vllmd.models.quantization import Quantization, read

PACKED = {
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 128}, Quantization("awq", 4, 128)),
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}, Quantization("gptq", 4, 128)),
    "fp8": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, Quantization("fp8", 8, blocks=True)),
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, Quantization("bitsandbytes", 4, 64)),
    "mxfp4": ({"quant_method": "mxfp4"}, Quantization("mxfp4", 4, 32, experts_only=True)),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, Quantization("modelopt_fp4", 4, 16)),
    "compressed-tensors": (
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}},
        Quantization("compressed-tensors", 8),
    ),
    "unheard of": ({"quant_method": "wormhole"}, Quantization("wormhole", None)),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKED)
def test_how_weights_are_packed(name: str) -> None:
    """By the method that the checkpoint names, wherever it does."""
    config, expected = PACKED[name]

    assert read({"quantization_config": config}) == expected
    assert read({"text_config": {"quantization_config": config}}) == expected
    assert read({"compression_config": config}) == expected


@pytest.mark.parametrize("config", [{}, {"quantization_config": None}, {"quantization_config": {}}])
def test_most_are_not(config: dict[str, Any]) -> None:
    """Nothing that names a packing."""
    assert read(config) is None


@pytest.mark.parametrize(
    ("packing", "size"),
    [
        (Quantization("fp8", 8), 1_048_576),
        (Quantization("awq", 4, 128), 524_288 + 8192 * 20 // 8),
        (Quantization("mxfp4", 4, 32), 524_288 + 32768),
        (Quantization("compressed-tensors", 4, 128), 524_288 + 8192 * 2),
    ],
)
def test_scales_and_zero_points_count(packing: Quantization, size: int) -> None:
    """Of a million weights: 16 bits for each group, a zero point where the format has one, or 8 bits."""
    assert packing.bytes_of(1 << 20) == size


def test_an_unknown_packing_has_no_size() -> None:
    """It would be a guess."""
    assert Quantization("wormhole", None).bytes_of(1 << 20) is None
