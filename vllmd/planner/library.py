"""Auto-config for scripts that start vLLM by themselves, without a daemon.

    from vllm import LLM
    from vllmd.planner import detect_gpus, plan

    detect_gpus().print_summary()
    llm = LLM(model=model, **plan(model, use_case="production"))

Imports neither vLLM nor torch, so that it can be asked before CUDA is set up.
"""

from __future__ import annotations

import difflib
import importlib.util
from typing import Any

from vllmd import catalog
from vllmd.errors import InvalidRequest, VllmdError
from vllmd.gpu.inventory import Gpu, Inventory
from vllmd.planner import arguments, offline, use_cases
from vllmd.planner.choice import Infeasible
from vllmd.planner.host_gpus import HostGpus
from vllmd.planner.planning import Plan

_OF_SIMULATED = "GPU-SIM-"


class Arguments(dict[str, Any]):
    """Keyword arguments for `vllm.LLM`, and where they come from."""

    def __init__(self, plan: Plan, reasons: list[str]) -> None:
        super().__init__(plan.engine_args)
        self.plan = plan
        """With the GPUs, what is on them, and what the KV cache holds."""
        self.reasons = reasons
        """One text for each argument, and what else is to be known."""

    @property
    def cuda_visible_devices(self) -> str:
        """What `CUDA_VISIBLE_DEVICES` has to be for vLLM to take the GPUs of the plan, since it takes the first."""
        return ",".join(gpu.uuid for gpu in self.plan.gpus)


def vllm_is_installed() -> bool:
    """Tell whether vLLM could be imported here, without importing it."""
    return importlib.util.find_spec("vllm") is not None


def detect_gpus() -> HostGpus:
    """Look at this host's GPUs: those that `CUDA_VISIBLE_DEVICES` leaves, with what is free now.

    Raises:
        Unavailable: there are some, and NVML does not answer for them.
    """
    return offline.detect()


def plan(
    model: str, *, use_case: str | None = None, gpus: HostGpus | Inventory | str | None = None, **overrides: Any
) -> Arguments:
    """Choose the arguments for `vllm.LLM` by the model, the GPUs and what it is for.

    On a host without a GPU they are such as run on the CPU, and `reasons` says so.

    Args:
        model: a folder, or a hub id; one that is not in the hub's cache is asked for, if huggingface_hub is installed.
        use_case: `production`, `download`, `debate`, `latency` or `throughput`; `None` for none in particular.
        gpus: what `detect_gpus` gave, or a text such as `2xRTX3090+nvlink`; `None` for this host's.
        overrides: engine arguments that are settled; they are kept, or an error says what would work.

    Raises:
        InvalidRequest: what is set can't work, or there is no such use case; the nearest that works is named.
        NotFound: there is no such model.
        NotPossible: it never fits these GPUs, or what the host sets can't work.
        Denied: the hub does not let us have it.
        Exhausted: it does not fit now. As for all that does not fit, the message says how much is missing where, and
            what would make it fit.
        Unavailable: NVML does not say which GPUs there are.
    """
    check_use_case(use_case)
    arguments.check_values(overrides, overrides)
    where = gpus if gpus is None or isinstance(gpus, HostGpus) else _as_host_gpus(gpus)
    revision = str(overrides.get("revision") or "")
    outcome = offline.work_out(model, overrides, revision=revision, use_case=use_case, gpus=where, program="llm")
    if isinstance(outcome.found, Infeasible):
        raise as_error(outcome.found)
    return Arguments(outcome.found, [*outcome.reasons, *_to_be_made_visible(outcome.found, outcome.gpus)])


def check_use_case(name: str | None) -> None:
    """Refuse a use case that there is not.

    Raises:
        InvalidRequest: with the nearest, and all that there are.
    """
    if use_cases.named(name) is not None:
        return
    nearest = difflib.get_close_matches(str(name), use_cases.USE_CASES, n=1, cutoff=0.0)[0]
    known = ", ".join(use_cases.USE_CASES)
    message = f"There is no use case {name!r}; the nearest is {nearest}, and there are {known}."
    raise InvalidRequest("INVALID_USE_CASE", message, use_case=name)


def as_error(found: Infeasible) -> VllmdError:
    """Put it as an error, with what would help in its message."""
    entry = catalog.find(found.reason)
    assert entry is not None
    helps = {"remedies": found.help} if found.remedies else {}
    return entry.error(found.reason, found.advice, **found.numbers, **helps)


def _as_host_gpus(gpus: Inventory | str) -> HostGpus:
    return offline.parse(gpus) if isinstance(gpus, str) else HostGpus(gpus)


def _to_be_made_visible(found: Plan, gpus: HostGpus) -> list[str]:
    """Say where the plan is not for the first GPUs, which are those that vLLM takes."""
    first = gpus.inventory.gpus[: len(found.gpus)]
    if found.gpus == first or any(map(_is_simulated, found.gpus)):
        return []
    indexes = ", ".join(str(gpu.index) for gpu in found.gpus)
    devices = ",".join(gpu.uuid for gpu in found.gpus)
    return [f"for GPU {indexes}: set CUDA_VISIBLE_DEVICES={devices} before vLLM is imported, as it takes the first"]


def _is_simulated(gpu: Gpu) -> bool:
    return gpu.uuid.startswith(_OF_SIMULATED)
