"""Judges the interpreter that engines run under: its Python, its vLLM, and the CUDA of its torch. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from vllmd.doctor.finding import Finding, counted, fail, ok, unknown, warn

OLDEST_VLLM = (0, 22)
NEWEST_VLLM = (0, 33)
"""Those between were read, or run, and found to fit."""
_OLDEST_PYTHON = (3, 11)
"""For `asyncio.timeout`, which the worker waits with."""

Version = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What `engine_python` says of itself."""

    python: str
    """The path, as the configuration has it."""
    runs: bool = True
    why: str = ""
    """Why it does not run, or did not say."""
    python_version: str | None = None
    """`None` if it did not say."""
    vllm: str | None = None
    """`None` if it has none; likewise the others."""
    torch: str | None = None
    torch_cuda: str | None = None
    """The CUDA that torch was built for, such as `12.8`; `None` for a build without."""
    torch_hip: str | None = None
    msgspec: str | None = None
    huggingface_hub: str | None = None
    driver_cuda: str = ""
    """The newest that the driver runs; empty if it does not say."""
    gpus: int | None = None
    """How many the host has; `None` if that is unknown."""
    fake: bool = False
    """Whether engines are fake ones, which need no vLLM."""


def without_gpus(facts: EngineFacts) -> bool:
    """Tell whether engines need no GPU: fake ones, and those of a vLLM that was built for the CPU."""
    built_for_cpu = facts.torch is not None and facts.torch_cuda is None and facts.torch_hip is None
    return facts.fake or built_for_cpu


def judge(facts: EngineFacts) -> Iterator[Finding]:
    """Say whether an engine could be started under it."""
    if not facts.runs:
        todo = "Set engine_python (--engine-python PATH) to the interpreter of the environment that has vLLM."
        yield fail("engine_python", f"{facts.python} {facts.why}", todo)
        return
    if facts.python_version is None:
        todo = f"Run `{facts.python} -c 'import vllm'` by hand, and see what it says or waits for."
        yield unknown("engine_python", f"{facts.python} {facts.why}", todo)
        return
    yield _python(facts, facts.python_version)
    if facts.fake:
        yield ok("vLLM", "not needed: engines are fake")
        return
    yield _vllm(facts)
    if facts.vllm is not None:
        yield from _beside(facts)
        yield _cuda(facts)


def _python(facts: EngineFacts, version: str) -> Finding:
    found = f"{facts.python}, Python {version}"
    known = parsed(version)
    if known is not None and known < _OLDEST_PYTHON:
        return fail("engine_python", found, "Make an environment with Python 3.11 or later for vLLM, and name it.")
    return ok("engine_python", found)


def _vllm(facts: EngineFacts) -> Finding:
    span = f"0.{OLDEST_VLLM[1]} to 0.{NEWEST_VLLM[1]}"
    if facts.vllm is None:
        todo = f"Install it there (`{facts.python} -m pip install vllm`), or set engine_python to where it is."
        return fail("vLLM", f"{facts.python} has none", todo)
    known = parsed(facts.vllm)
    if known is None or known == (0, 0):
        return unknown("vLLM", f"{facts.vllm} is no release; {span} are known to work")
    if known < OLDEST_VLLM:
        return fail("vLLM", f"{facts.vllm} is too old", f"Upgrade it: {span} are known to work.")
    if known > NEWEST_VLLM:
        todo = f"Try a small model first; {span} are known to work."
        return warn("vLLM", f"{facts.vllm} is newer than what vllmd was tried with", todo)
    return ok("vLLM", facts.vllm)


def _beside(facts: EngineFacts) -> Iterator[Finding]:
    if facts.msgspec is None:
        todo = f"vLLM brings it: the environment is damaged. `{facts.python} -m pip install msgspec`."
        yield fail("msgspec", "missing, and engines talk to the daemon by it", todo)
    if facts.huggingface_hub is None:
        todo = f"`{facts.python} -m pip install huggingface_hub`, unless all models are local folders."
        yield warn("hub client", "huggingface_hub is missing: no model can be fetched", todo)


def _cuda(facts: EngineFacts) -> Finding:
    if facts.torch is None:
        todo = f"`{facts.python} -m pip install --force-reinstall vllm` brings the torch that fits."
        return fail("torch", "missing, and vLLM can't be imported without it", todo)
    if facts.torch_cuda is None:
        return _without_cuda(facts)
    built, driver = parsed(facts.torch_cuda), parsed(facts.driver_cuda)
    found = f"{facts.torch} for CUDA {facts.torch_cuda}"
    if facts.gpus == 0:
        return warn("torch", f"{found}, and NVML finds no GPU", "Make the GPUs visible first; see NVML above.")
    if built is None or driver is None:
        return unknown("torch", f"{found}; the driver does not say which CUDA it runs")
    found = f"{found}, driver for CUDA {facts.driver_cuda}"
    if built[0] > driver[0]:
        todo = f"Upgrade the driver to one of CUDA {facts.torch_cuda}, or install a vLLM built for {driver[0]}.x."
        return fail("torch", found, todo)
    if built > driver:
        # CUDA's minor version compatibility: it runs, but PTX of the newer compiler can't be compiled by the driver.
        todo = "Binaries run within one major version, PTX does not: upgrade the driver if kernels fail to load."
        return warn("torch", found, todo)
    return ok("torch", found)


def _without_cuda(facts: EngineFacts) -> Finding:
    kind = f"for ROCm {facts.torch_hip}" if facts.torch_hip else "without CUDA"
    found = f"{facts.torch} is a build {kind}"
    if facts.gpus:
        todo = "Install vLLM's CUDA build there; this torch sees no NVIDIA GPU."
        return fail("torch", f"{found}, and the host has {counted(facts.gpus, 'NVIDIA GPU')}", todo)
    return ok("torch", f"{found}: engines run on the CPU")


def parsed(version: str) -> Version | None:
    """Read major and minor of a version; `None` if it does not begin with both."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None
