"""What vLLM says when it can't start, what that means, and what to do about it.

Texts of vLLM 0.11 to 0.33. The named groups of a pattern are the numbers of the answer's metadata.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """One kind of error."""

    pattern: re.Pattern[str]
    reason: str
    invalid: bool
    """True if the request is to blame, so that another try can't help."""
    hint: Callable[[Mapping[str, str]], str]
    """What to do, as a sentence, from the numbers of the text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recognized:
    """An error that is known."""

    reason: str
    invalid: bool
    hint: str
    numbers: tuple[tuple[str, str], ...]


def recognize(*texts: str) -> Recognized | None:
    """Find the first kind of error that is in any of some texts; `None` if there is none.

    The numbers are those of the first text that has it: the cause comes before the whole log, which may speak of more.
    """
    for known in _KNOWN:
        for match in filter(None, map(known.pattern.search, texts)):
            numbers = {name: value for name, value in match.groupdict().items() if value is not None}
            return Recognized(known.reason, known.invalid, known.hint(numbers), tuple(numbers.items()))
    return None


def _say(text: str) -> Callable[[Mapping[str, str]], str]:
    return lambda numbers: text


def _shorter(numbers: Mapping[str, str]) -> str:
    if longest := numbers.get("longest_max_model_len"):
        return f"max_model_len={longest} would fit; so would fewer sequences' worth of cache with kv_cache_dtype=fp8."
    return "Lower max_model_len, or leave it out: then what fits is chosen."


def _divisors(numbers: Mapping[str, str]) -> str:
    heads = int(numbers["attention_heads"])
    sizes = [str(size) for size in range(1, min(heads, 16) + 1) if heads % size == 0]
    return f"tensor_parallel_size can be {', '.join(sizes)}."


def _library(numbers: Mapping[str, str]) -> str:
    what = f"the library {numbers['library']} is missing" if "library" in numbers else "a library is missing"
    return f"vLLM's compiled part did not load: {what}, as the engine's log says. Install it on this host."


def _known(
    pattern: str, reason: str, invalid: bool = False, hint: Callable[[Mapping[str, str]], str] | None = None
) -> Known:
    return Known(re.compile(pattern, re.DOTALL), reason, invalid, hint or _say(""))


_ROOM = "Lower gpu_memory_utilization, or free memory on the GPU."

_OPERATORS_MISSING = r"'_OpNamespace' '_C\w*' object has no attribute"
"""What becomes of a compiled part that could not be loaded, of which vLLM has only warned."""

_KNOWN = (
    # The library is named some lines before. The anchor keeps the look ahead from being repeated for each character.
    _known(
        rf"\A(?=.*{_OPERATORS_MISSING}).*?(?P<library>lib[\w.+-]+\.so[\w.]*): cannot open shared object file",
        "VLLM_BROKEN",
        invalid=True,
        hint=_library,
    ),
    _known(_OPERATORS_MISSING, "VLLM_BROKEN", invalid=True, hint=_library),
    _known(
        r"ImportError: (?P<library>lib[\w.+-]+\.so[\w.]*): cannot open shared object file",
        "VLLM_BROKEN",
        invalid=True,
        hint=_library,
    ),
    _known(
        r"LoRA adapter '(?P<lora>[\w.-]+)' can't be loaded",
        "INVALID_LORA",
        invalid=True,
        hint=lambda numbers: f"So vLLM says of LoRA adapter {numbers['lora']}: load the model without it.",
    ),
    _known(r"(?P<architecture>\w+) does not support LoRA", "LORA_UNSUPPORTED", invalid=True),
    _known(
        r"Free memory on device .*?\((?P<free_gib>[\d.]+)/(?P<total_gib>[\d.]+) GiB\).{0,40}"
        r"is less than desired GPU memory utilization"
        r"(?: \((?P<gpu_memory_utilization>[\d.]+), (?P<wanted_gib>[\d.]+))?",
        "GPU_MEMORY_EXHAUSTED",
        hint=_say(_ROOM),
    ),
    _known(r"Available memory on node .* is less than", "HOST_MEMORY_EXHAUSTED"),
    _known(
        r"CUDA out of memory occurred when warming up sampler with (?P<dummy_requests>\d+) dummy requests",
        "GPU_MEMORY_EXHAUSTED",
        hint=lambda numbers: f"Lower max_num_seqs from {numbers['dummy_requests']}, or gpu_memory_utilization.",
    ),
    _known(
        r"CUDA out of memory(?:\. Tried to allocate (?P<wanted_gib>[\d.]+) GiB)?|OutOfMemoryError"
        r"|Failed to load model - not enough GPU",
        "GPU_MEMORY_EXHAUSTED",
        hint=_say(_ROOM),
    ),
    _known(r"No available memory for the cache blocks|Cannot auto-fit max_model_len", "KV_CACHE_TOO_SMALL"),
    _known(
        r"To serve at least one request with the models?'s max seq len \((?P<max_model_len>\d+)\)"
        r"(?:, \((?P<needed_gib>[\d.]+) GiB KV cache is needed)?"
        r"(?:.{0,80}?available KV cache memory \((?P<available_gib>[\d.]+) GiB\))?"
        r"(?:.{0,80}?estimated maximum model length is (?P<longest_max_model_len>\d+))?",
        "KV_CACHE_TOO_SMALL",
        invalid=True,
        hint=_shorter,
    ),
    _known(
        r"number of attention heads \((?P<attention_heads>\d+)\) must be divisible by tensor parallel size "
        r"\((?P<tensor_parallel_size>\d+)\)",
        "INVALID_ENGINE_ARG",
        invalid=True,
        hint=_divisors,
    ),
    _known(
        r"World size \((?P<world_size>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d+)\)",
        "NOT_ENOUGH_GPUS",
        invalid=True,
    ),
    _known(
        r"Minimum capability: (?P<needed_capability>\d+)\. Current capability: (?P<capability>\d+)",
        "GPU_UNSUPPORTED",
        invalid=True,
    ),
    _known(
        r"only supported on GPUs with compute capability(?: of at least (?P<needed_capability>\d+\.\d+))?"
        r"(?:.{0,100}?has compute capability (?P<capability>\d+\.\d+))?|not supported for the current GPU",
        "GPU_UNSUPPORTED",
        invalid=True,
    ),
    _known(r"Sleep mode is not supported on current platform", "SLEEP_UNSUPPORTED", invalid=True),
    _known(
        r"max_model_len \((?P<max_model_len>\d+)\) is greater than the derived max_model_len "
        r"\((?:max_position_embeddings=(?P<model_max_len>\d+))?"
        r"(?:.{0,60}?model_max_length=(?P<tokenizer_max_len>\d+))?",
        "INVALID_ENGINE_ARG",
        invalid=True,
        hint=lambda numbers: f"At most {numbers['model_max_len']} is possible." if "model_max_len" in numbers else "",
    ),
    _known(r"Unknown quantization method|[Uu]nknown engine argument", "INVALID_ENGINE_ARG", True),
    _known(
        r"are not supported for now|does not recognize this architecture|was supported in vLLM until",
        "MODEL_UNSUPPORTED",
        invalid=True,
    ),
    _known(
        r"GatedRepoError|Cannot access gated repo|LocalTokenNotFoundError",
        "MODEL_GATED",
        invalid=True,
        hint=_say("Accept the model's license on its page and give the daemon an HF_TOKEN."),
    ),
    _known(r"RepositoryNotFoundError|RevisionNotFoundError|HFValidationError", "MODEL_NOT_FOUND", True),
    _known(
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to",
        "MODEL_UNAVAILABLE",
        hint=_say("It is not in the hub's cache, and the hub can't be asked: see to the network and HF_HUB_OFFLINE."),
    ),
    _known(
        r"(?P<http_status>5\d\d) Server Error|(?:Read|Connect)Timeout(?:Error)?: ",
        "MODEL_UNAVAILABLE",
        hint=_say("The hub does not answer: try again later."),
    ),
    # Of weights that it may not read vLLM says, by way of safetensors, that they do not exist.
    _known(
        r"(?:FileNotFoundError: No such file or directory: |PermissionError: \[Errno 13\] Permission denied: ')"
        r"\"?(?P<file>/[^\n\"']{1,1000}?\.(?:safetensors|json|bin|pt))\b",
        "MODEL_UNREADABLE",
        invalid=True,
        hint=_say("It is not there, or the user that engines run as may not read it."),
    ),
    _known(
        r"Timed out waiting for engine core processes to start",
        "START_TIMEOUT",
        hint=_say("Raise --load-timeout."),
    ),
    _known(
        r"No module named '?vllm",
        "VLLM_NOT_INSTALLED",
        invalid=True,
        hint=_say("engine_python must name one that has vLLM; it gets PYTHONPATH by pass_environment alone."),
    ),
    _known(r"Error in memory profiling", "PROFILING_DISTURBED"),
    # After all that is more telling: vLLM can do without much of what it would write.
    _known(
        r"No space left on device(?:[:(][^\n']{0,80}'(?P<path>[^'\n]+)')?|Disk quota exceeded",
        "DISK_FULL",
        hint=_say("Make room on that disk, or give vllmd another --cache-dir."),
    ),
    # Last, what vLLM wraps any of the above in.
    _known(r"Cannot find any model weights|Invalid repository ID", "MODEL_NOT_FOUND", True),
    _known(r"validation errors? for \w+", "INVALID_ENGINE_ARG", True),
)
"""The first that matches counts."""
