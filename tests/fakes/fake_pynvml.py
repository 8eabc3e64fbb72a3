"""A driver that answers as written down: what `import pynvml` finds while a test has it installed.

The answers come from a snapshot in the format of `tests/data/nvml`.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SNAPSHOTS = Path(__file__).parents[1] / "data" / "nvml"
Answers = dict[str, dict[str, Any]]
"""By function, then by its arguments, separated by a space; a GPU is its index, and `0.2` its slice in slot 2."""

TWO_H200: Mapping[str, Any] = {
    "nvmlSystemGetDriverVersion": {"": "570.86.15"},
    "nvmlDeviceGetCount": {"": 2},
    "nvmlDeviceGetUUID": {"0": "GPU-0", "1": "GPU-1"},
    "nvmlDeviceGetName": {"*": "NVIDIA H200"},
    "nvmlDeviceGetMemoryInfo": {
        "0": {"total": 100_000, "used": 10_000, "free": 90_000},
        "1": {"total": 100_000, "used": 10_001, "free": 89_999},
    },
    "nvmlDeviceGetCudaComputeCapability": {"*": [9, 0]},
    "nvmlDeviceGetUtilizationRates": {"*": {"gpu": 37, "memory": 12}},
    "nvmlDeviceGetComputeRunningProcesses": {"*": [{"pid": 4711, "usedGpuMemory": 7_000}]},
}
"""A small one, for tests of everything but what the GPUs are like."""


class NVMLError(Exception):
    """Root of all, as in pynvml."""


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801 - pynvml's name
    """No driver is installed."""


class NVMLError_DriverNotLoaded(NVMLError):  # noqa: N801 - pynvml's name
    """The driver is installed and not loaded."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801 - pynvml's name
    """The GPU has no such thing."""


class NVMLError_NoPermission(NVMLError):  # noqa: N801 - pynvml's name
    """The caller may not know."""


class NVMLError_FunctionNotFound(NVMLError):  # noqa: N801 - pynvml's name
    """The driver is too old to know."""


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801 - pynvml's name
    """The GPU has fallen off the bus."""


class NVMLError_NotFound(NVMLError):  # noqa: N801 - pynvml's name
    """There is nothing there."""


class NVMLError_InvalidArgument(NVMLError):  # noqa: N801 - pynvml's name
    """It was asked for what there can't be."""


class NVMLError_Unknown(NVMLError):  # noqa: N801 - pynvml's name
    """The driver does not know either."""


_KINDS: list[type[NVMLError]] = [NVMLError, *NVMLError.__subclasses__()]
_ERRORS = {kind.__name__: kind for kind in _KINDS}
_WORDS = {
    "GpuIsLost": "GPU is lost",
    "InvalidArgument": "Invalid Argument",
    "NoPermission": "Insufficient Permissions",
    "NotFound": "Not Found",
    "NotSupported": "Not Supported",
    "Unknown": "Unknown Error",
}


def snapshot_named(name: str) -> Answers:
    """Read one of the snapshots."""
    answers: Answers = json.loads((SNAPSHOTS / f"{name}.json").read_text())["answers"]
    return answers


class FakePynvml(types.ModuleType):
    """The module. A test may change `answers`, and set `errors` for functions by name and index of the GPU.

    What has no answer is not supported; a GPU that has no error is found, and a slice that has a UUID.
    """

    NVML_NVLINK_MAX_LINKS = 36
    nvmlMemory_v2 = 0x2000028  # noqa: N815 - pynvml's name

    def __init__(self, answers: Mapping[str, Any] = TWO_H200) -> None:
        super().__init__("pynvml")
        self.calls: list[str] = []
        self.answers: Answers = json.loads(json.dumps(answers))
        self.errors: dict[tuple[str, int | None], NVMLError] = {}
        """By function and index of the GPU; `None` for functions that are of none."""
        for name, error in _ERRORS.items():
            setattr(self, name, error)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, name: str, *arguments: object) -> Any:
        self.calls.append(name)
        index = int(str(arguments[0]).partition(".")[0]) if arguments else None
        if (name, index) in self.errors:
            raise self.errors[name, index]
        answer = self._answer(name, " ".join(map(str, arguments)))
        if isinstance(answer, dict) and "error" in answer:
            word = answer["error"]
            raise _ERRORS[f"NVMLError_{word}"](_WORDS.get(word, word))
        return _object(answer)

    def _answer(self, name: str, arguments: str) -> Any:
        known = self.answers.get(name, {})
        for pattern, answer in known.items():
            if fnmatch.fnmatchcase(arguments, pattern):
                return answer
        match name:
            case "nvmlInit" | "nvmlShutdown":
                return None
            case "nvmlDeviceGetHandleByIndex":
                return arguments
            case "nvmlDeviceGetMigDeviceHandleByIndex":
                handle = arguments.replace(" ", ".")
                return handle if handle in self.answers["nvmlDeviceGetUUID"] else {"error": "NotFound"}
            case _:
                return {"error": "NotSupported"}


def _object(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_object(one) for one in answer]
    return types.SimpleNamespace(**answer) if isinstance(answer, dict) else answer
