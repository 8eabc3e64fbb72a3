"""How a checkpoint's weights are packed, from `quantization_config` or what older exporters call it."""

from __future__ import annotations

import dataclasses

from vllmd.models import fields
from vllmd.models.fields import Config, boolean, inner, integer, integers, word


@dataclasses.dataclass(frozen=True, slots=True)
class Quantization:
    """The packing of a checkpoint."""

    method: str
    """By vLLM's name."""
    bits: int | None
    """Of a packed weight; `None` if that is not said."""
    group: int | None = None
    """How many weights share a scale; `None` for a scale for each channel or matrix."""
    experts_only: bool = False
    """Whether only experts are packed, and all else is as it was."""
    blocks: bool = False
    """Whether scales are of square blocks, which a division among GPUs must keep whole."""

    def bytes_of(self, weights: int) -> int | None:
        """Work out what so many packed weights take, scales and zero points included."""
        if self.bits is None:
            return None
        if self.group is None:
            return weights * self.bits // 8
        scale_bits = 8 if self.method in _SCALES_OF_8_BITS else 16 + (self.bits if self.method in _WITH_ZEROS else 0)
        return weights * self.bits // 8 + weights // self.group * scale_bits // 8

    def loaded_bytes_of(self, weights: int) -> int | None:
        """Work out what they take once they are loaded: kernels may keep scales and zero points in a second form."""
        stored = self.bytes_of(weights)
        more = _KEPT_BESIDE_BITS.get(self.method)
        return (
            stored if stored is None or more is None or not self.group else stored + weights // self.group * more // 8
        )


_KEPT_BESIDE_BITS = {"awq": 30, "auto_awq": 30, "awq_marlin": 30}
"""For each group, as vLLM 0.25.1 was measured to hold on an H100 (`tests/data/measured`, qwen2.5-7b-awq)."""
_SCALES_OF_8_BITS = frozenset({"mxfp4", "gpt_oss_mxfp4", "modelopt_fp4", "nvfp4"})
_WITH_ZEROS = frozenset({"awq", "gptq", "auto_awq", "auto_gptq", "awq_marlin", "gptq_marlin"})
_BITS = {"fp8": 8, "fbgemm_fp8": 8, "experts_int8": 8, "mxfp4": 4, "mxfp8": 8}
_ALGORITHMS = {"FP8": 8, "NVFP4": 4, "W4A16_AWQ": 4, "INT4_AWQ": 4, "MXFP8": 8}


_PLACES = ("quantization_config", "compression_config")


def read(config: Config) -> Quantization | None:
    """Read how a checkpoint is packed; `None` if it is not."""
    text = fields.text(config)
    found = next(
        (
            one
            for name in ("quantization_config", "compression_config")
            for c in (config, text)
            if (one := inner(c, name))
        ),
        None,
    )
    if found is None:
        return None
    method = (word(found, "quant_method", "quant_type") or "").lower().replace("_", "-")
    method = {"compressed-tensors": method, "": "unknown"}.get(method, method.replace("-", "_"))
    match method:
        case "compressed-tensors":
            return _compressed(found)
        case "bitsandbytes":
            return Quantization(method, 4 if boolean(found, "load_in_4bit") else 8, 64)
        case "mxfp4":
            return Quantization(method, 4, 32, experts_only=True)
        case "modelopt":
            algorithm = word(found, "quant_algo") or word(inner(found, "quantization"), "quant_algo") or "FP8"
            bits = _ALGORITHMS.get(algorithm.upper())
            return Quantization("modelopt_fp4" if bits == 4 else method, bits, 16 if bits == 4 else None)
        case _:
            bits = integer(found, "bits", "w_bit", "weight_bits") or _BITS.get(method)
            blocks = bool(integers(found, "weight_block_size"))
            return Quantization(method, bits, integer(found, "group_size", "q_group_size"), blocks=blocks)


def _compressed(found: Config) -> Quantization:
    groups = inner(found, "config_groups").values()
    weights = [inner(group, "weights") for group in groups if isinstance(group, dict)]
    bits = [value for one in weights if (value := integer(one, "num_bits"))]
    sizes = [value for one in weights if (value := integer(one, "group_size"))]
    return Quantization("compressed-tensors", max(bits, default=None), min(sizes, default=None))
