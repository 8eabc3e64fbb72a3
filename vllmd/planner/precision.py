"""In how many bits weights, activations and the KV cache are kept: by the checkpoint, the GPUs, and what is set.

Minimum compute capabilities are those of vLLM's own quantization layers (`get_min_capability`), 0.25 to 0.33.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

from vllmd.gpu.inventory import Gpu
from vllmd.models.facts import ModelFacts
from vllmd.models.quantization import Quantization
from vllmd.planner.choice import Draft, Infeasible

Capability = tuple[int, int]

_BFLOAT16 = (8, 0)
_PLAIN_BYTES = {"auto": None, "half": 2, "float16": 2, "bfloat16": 2, "float": 4, "float32": 4}
_KV_BYTES = {
    "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "fp8_inc": 1.0, "fp8_per_token_head": 1.0, "int8_per_token_head": 1.0,
    "int4_per_token_head": 0.5, "float16": 2.0, "bfloat16": 2.0, "nvfp4": 0.5625,
}  # fmt: skip
"""Bytes of a value in the cache; those with a scale for each token and head take a little more."""

ONLINE = {
    "fp8": Quantization("fp8", 8),
    "fp8_per_tensor": Quantization("fp8", 8),
    "fp8_per_channel": Quantization("fp8", 8),
    "fp8_per_block": Quantization("fp8", 8),
    "mxfp8": Quantization("mxfp8", 8, 32),
    "int8_per_channel_weight_only": Quantization("int8", 8),
    "experts_int8": Quantization("experts_int8", 8, experts_only=True),
}
"""What vLLM makes of a checkpoint that is not packed, while it loads it; output layer and embedding stay unpacked."""

_CACHE_FAMILIES = ("fp8", "int8", "int4", "nvfp4", "turboquant", "octave", "ultraquant")
"""How names of caches begin, in vLLM 0.11 to 0.33, that are none of `_KV_BYTES`: what they take is not known."""

_BACKENDS = frozenset(
    {
        "CPU_ATTN", "CUSTOM", "CUTLASS_MLA", "FLASHINFER", "FLASHINFER_MLA", "FLASHINFER_MLA_SPARSE", "FLASHMLA",
        "FLASHMLA_SPARSE", "FLASH_ATTN", "FLASH_ATTN_DIFFKV", "FLASH_ATTN_MLA", "FLASH_ATTN_MLA_SPARSE",
        "FLEX_ATTENTION", "HPC_ATTN", "MINIMAX_M3_SPARSE", "NO_ATTENTION", "TOKENSPEED_MLA", "TORCH_SDPA", "TREE_ATTN",
        "TRITON_ATTN", "TRITON_ATTN_DIFFKV", "TRITON_MLA", "TURBOQUANT", "XFORMERS",
    }
)  # fmt: skip
"""vLLM's attention backends for CUDA and the CPU, 0.11 to 0.33; those of other platforms begin with their names."""
_OF_PLATFORMS = ("ROCM_", "XPU_")

_LEAST: dict[str, Capability] = {
    "gptq": (6, 0), "auto_gptq": (6, 0), "gptq_marlin": (7, 5), "awq": (7, 5), "auto_awq": (7, 5),
    "awq_marlin": (7, 5), "fp8": (7, 5), "compressed-tensors": (7, 5), "modelopt": (8, 9), "modelopt_fp4": (7, 5),
    "mxfp4": (8, 0), "mxfp8": (8, 0), "bitsandbytes": (7, 0), "experts_int8": (8, 0), "fbgemm_fp8": (8, 0),
    "torchao": (7, 5),
}  # fmt: skip
_FAMILIES = ({"gptq", "auto_gptq", "gptq_marlin"}, {"awq", "auto_awq", "awq_marlin"}, {"mxfp4", "gpt_oss_mxfp4"})
"""Methods that read each other's checkpoints."""

_LEAST_BACKEND: dict[str, tuple[Capability, str]] = {
    "FLASH_ATTN": (_BFLOAT16, "TRITON_ATTN"),
    "FLASHINFER": (_BFLOAT16, "TRITON_ATTN"),
}
"""Attention backends, the GPUs they need, and what runs on all."""

_FP8 = (8, 9)
_HOPPER = 9
_FP8_CACHES = frozenset({"fp8", "fp8_e4m3", "fp8_e5m2"})
_LEAST_CACHE: dict[str, Capability] = {
    "bfloat16": _BFLOAT16, "fp8_per_token_head": _FP8, "nvfp4": (10, 0), **dict.fromkeys(_FP8_CACHES, _BFLOAT16),
}  # fmt: skip
"""Caches, and the GPUs on which some attention backend has them: of FP8 FlashInfer from Ampere on, Triton from Ada on,
and FlashAttention on Hopper."""


@dataclasses.dataclass(frozen=True, slots=True)
class Precision:
    """What the arithmetic goes by."""

    facts: ModelFacts | None
    """The model as it is once it is loaded: packed on the fly, if that is wanted."""
    plain_bytes: int | None
    """Of a weight that is not packed; `None` as the model's dtype says."""
    cache_bytes: float | None
    """Of a value in the KV cache; `None` if that is not known."""
    is_stored: bool = True
    """Whether the files are packed as the weights are; no if that happens while they are loaded."""


def settle(draft: Draft, facts: ModelFacts | None, gpus: Sequence[Gpu]) -> Precision | Infeasible:
    """Choose the dtype where the GPUs leave no other, and refuse what they or the checkpoint can't do."""
    least = min((gpu.compute_capability for gpu in gpus if gpu.compute_capability), default=None)
    refused = _refuse_dtype(draft, least) or _refuse_backend(draft, least) or _refuse_cache(draft, least)
    if refused is not None:
        return refused
    if least is not None and least < _BFLOAT16 and facts is not None and facts.dtype == "bfloat16":
        reason = f"these GPUs, of compute capability {_dotted(least)}, have no bfloat16"
        draft.choose("dtype", "float16", "hardware", reason)
    packed = _packed(draft, facts, least)
    if isinstance(packed, Infeasible):
        return packed
    plain = _PLAIN_BYTES.get(str(draft.get("dtype", "auto")).removeprefix("torch."))
    word = draft.get("kv_cache_dtype", "auto")
    cache = float(plain or 2) if word == "auto" else _KV_BYTES.get(str(word))
    if facts is None or packed is facts.quantization:
        return Precision(facts, plain, cache)
    return Precision(dataclasses.replace(facts, quantization=packed), plain, cache, is_stored=False)


def _packed(draft: Draft, facts: ModelFacts | None, least: Capability | None) -> Quantization | Infeasible | None:
    """Tell how the weights are packed once they are loaded."""
    wanted, has = draft.get("quantization"), facts.quantization if facts is not None else None
    if wanted is None or facts is None:
        return has if has is None else _refuse_method(has.method, least, False) or has
    method = str(wanted)
    if has is not None:
        same = method == has.method or any({method, has.method} <= family for family in _FAMILIES)
        if not same and has.method != "unknown":
            return _invalid(
                "quantization", method, f"the checkpoint is packed by {has.method}: leave it open, or take that"
            )
        return _refuse_method(has.method, least, True) or has
    if method not in ONLINE:
        nearest = difflib.get_close_matches(method, ONLINE, n=1, cutoff=0.0)[0]
        why = f"the checkpoint is not packed like that, and vLLM can't do it while loading; it can do {nearest}"
        return _invalid("quantization", method, why)
    return _refuse_method(ONLINE[method].method, least, True) or ONLINE[method]


def _refuse_method(method: str, least: Capability | None, wanted: bool) -> Infeasible | None:
    needed = _LEAST.get(method)
    if needed is None or least is None or least >= needed:
        return None
    what = "quantization" if wanted else "The checkpoint's quantization"
    message = (
        f"{what} {method} needs compute capability {_dotted(needed)}, and these GPUs have {_dotted(least)}: "
        "load a variant of the model that is not quantized like that."
    )
    numbers = {"needed_capability": _dotted(needed), "capability": _dotted(least)}
    return Infeasible("GPU_UNSUPPORTED", message, numbers, forever=True, invalid=wanted)


def _refuse_dtype(draft: Draft, least: Capability | None) -> Infeasible | None:
    wanted = str(draft.get("dtype", "auto")).removeprefix("torch.")
    if wanted not in _PLAIN_BYTES:
        nearest = difflib.get_close_matches(wanted, _PLAIN_BYTES, n=1, cutoff=0.0)[0]
        return _invalid("dtype", wanted, f"vLLM has none of that name; the nearest is {nearest}")
    if wanted == "bfloat16" and least is not None and least < _BFLOAT16:
        why = f"it needs compute capability 8.0, and these GPUs have {_dotted(least)}; float16 works"
        return _invalid("dtype", wanted, why)
    return None


def _refuse_backend(draft: Draft, least: Capability | None) -> Infeasible | None:
    wanted = draft.get("attention_backend")
    if wanted is not None and not _is_backend(wanted):
        nearest = difflib.get_close_matches(str(wanted).upper(), _BACKENDS, n=1, cutoff=0.0)[0]
        return _invalid("attention_backend", str(wanted), f"vLLM has none of that name; the nearest is {nearest}")
    needed = _LEAST_BACKEND.get(str(wanted).upper())
    if needed is None or least is None or least >= needed[0]:
        return None
    why = f"it needs compute capability {_dotted(needed[0])}, and these GPUs have {_dotted(least)}; {needed[1]} works"
    return _invalid("attention_backend", str(wanted), why)


def _refuse_cache(draft: Draft, least: Capability | None) -> Infeasible | None:
    """Refuse a KV cache that vLLM has not, or no attention backend on these GPUs, or not the one that was set."""
    given = draft.get("kv_cache_dtype", "auto")
    if not isinstance(given, str) or not (given in _KV_BYTES or given.startswith(("auto", *_CACHE_FAMILIES))):
        nearest = difflib.get_close_matches(str(given), ["auto", *_KV_BYTES], n=1, cutoff=0.0)[0]
        return _invalid("kv_cache_dtype", str(given), f"vLLM has none of that name; the nearest is {nearest}")
    wanted, backend = str(draft.get("kv_cache_dtype", "auto")), str(draft.get("attention_backend", "")).upper()
    needed = _LEAST_CACHE.get(wanted)
    if needed is None or least is None:
        return None
    if wanted in _FP8_CACHES and backend == "TRITON_ATTN":
        needed = _FP8
    if least < needed or (wanted == "nvfp4" and least[0] != needed[0]):
        where = f" with {backend}" if backend else ""
        nearest = "float16" if wanted == "bfloat16" else "auto"
        why = f"it needs compute capability {_dotted(needed)}{where}, and these GPUs have {_dotted(least)}"
        return _invalid("kv_cache_dtype", wanted, f"{why}; {nearest} works")
    if wanted in _FP8_CACHES and backend == "FLASH_ATTN" and (least[0] != _HOPPER or wanted == "fp8_e5m2"):
        return _invalid("attention_backend", backend, f"it has no cache of {wanted} on these GPUs; FLASHINFER has")
    return None


def _is_backend(name: object) -> bool:
    """Tell whether vLLM has such a backend, in any case, or one of a plugin's by the path of its class."""
    if not isinstance(name, str):
        return False
    return "." in name or name.upper() in _BACKENDS or name.upper().startswith(_OF_PLATFORMS)


def _invalid(name: str, value: str, why: str) -> Infeasible:
    message = f"Engine argument {name}={value} can't work here: {why}."
    return Infeasible("INVALID_ENGINE_ARG", message, {"argument": name, "value": value}, forever=True, invalid=True)


def _dotted(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"
