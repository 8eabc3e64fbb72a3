"""A driver that answers as told: what `import pynvml` finds while a test has it installed."""

from __future__ import annotations

import types
from typing import Any


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


class FakePynvml(types.ModuleType):
    """The module, with one H200 and one older card; a test may set `errors` for functions by name."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.calls: list[str] = []
        self.errors: dict[tuple[str, int | None], NVMLError] = {}
        """By function and index of the GPU; `None` for functions that are of none."""
        self.count = 2
        self.uuids: dict[int, str] = {}
        """By index, for what is not called as usual."""
        self.process: tuple[int, int | None] = (4711, 7_000)
        errors: list[type[NVMLError]] = [NVMLError, *NVMLError.__subclasses__()]
        for error in errors:
            setattr(self, error.__name__, error)

    def _call(self, name: str, index: int | None = None) -> None:
        self.calls.append(name)
        error = self.errors.get((name, index))
        if error is not None:
            raise error

    def nvmlInit(self) -> None:
        self._call("nvmlInit")

    def nvmlShutdown(self) -> None:
        self._call("nvmlShutdown")

    def nvmlSystemGetDriverVersion(self) -> str:
        self._call("nvmlSystemGetDriverVersion")
        return "570.86.15"

    def nvmlDeviceGetCount(self) -> int:
        self._call("nvmlDeviceGetCount")
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._call("nvmlDeviceGetHandleByIndex", index)
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        self._call("nvmlDeviceGetMemoryInfo", handle)
        return types.SimpleNamespace(total=100_000, used=10_000 + handle, free=90_000 - handle)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        self._call("nvmlDeviceGetCudaComputeCapability", handle)
        return (9, 0)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        self._call("nvmlDeviceGetUtilizationRates", handle)
        return types.SimpleNamespace(gpu=37, memory=12)

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        self._call("nvmlDeviceGetUUID", handle)
        return self.uuids.get(handle, f"GPU-{handle}")

    def nvmlDeviceGetName(self, handle: int) -> str:
        self._call("nvmlDeviceGetName", handle)
        return "NVIDIA H200"

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        self._call("nvmlDeviceGetComputeRunningProcesses", handle)
        pid, used = self.process
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=used)]
