"""What vLLM measured while it loaded a model: read in its own workers, by the names that they have for it.

`WorkerExtension` becomes a base of vLLM's worker class in every process that holds memory of a GPU, by the engine
argument `worker_extension_cls`; `AsyncLLM.collective_rpc` then calls its method by name, which needs no pickled code
(`VLLM_ALLOW_INSECURE_SERIALIZATION`). A name that some version of vLLM lacks is a figure that is not known.

How much the CUDA graphs took vLLM keeps nowhere, and only logs (0.22 to 0.33).
"""

from __future__ import annotations

import asyncio
import math
import os
import pathlib
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .backend import Backend
from .report import Measured

EXTENSION = f"{__name__}.WorkerExtension"
"""What `worker_extension_cls` is to be."""
METHOD = "vllmd_measured"

_CAPTURED = re.compile(
    r"^(?:Capturing CUDA graphs[^\[]*\[[^\]]*\]\s*)?(\([^)]*\))?\s*(?:\w+ )?(?:\S+ \S+ )?(?:\[[\w./-]+:\d+\] )?"
    r"Graph capturing finished in \d+ secs, took (-?\d{1,6}(?:\.\d+)?) GiB"
)
"""With what vLLM's logger puts before it, and a progress bar: other lines may quote what a client wrote, as a path."""
_COLORS = re.compile(r"\x1b\[[\d;]*m")
_ANSWER_SECONDS = 10.0
"""What vLLM's workers get to answer, which takes them milliseconds: nobody may wait long for figures."""
_LOG_BYTES = 16 << 20
"""Far more than a start logs."""


class WorkerExtension:
    """A base of vLLM's worker class. vLLM refuses it if the worker has anything of the same name."""

    def vllmd_measured(self) -> dict[str, int]:
        """Say what this worker has measured."""
        return of_worker(self)


async def of_load(backend: Backend, log: pathlib.Path, timeout: float = _ANSWER_SECONDS) -> Measured | None:
    """Find out what a load took; `None` if that can't be told, and the engine's log then says why.

    Args:
        backend: the engine, which is loaded.
        log: what its processes wrote.
        timeout: seconds that it may take.
    """
    try:
        async with asyncio.timeout(timeout):
            measured = await backend.measure(log)
    except Exception:  # noqa: BLE001 - whatever it is, it must not cost a model that is loaded
        print(f"vllmd: it is not known what this load took:\n{traceback.format_exc()}", flush=True)
        return None
    print(f"vllmd: {measured}", flush=True)
    return measured


def of_worker(worker: Any, environment: Mapping[str, str] = os.environ) -> dict[str, int]:
    """Say what a worker has measured, in bytes by the names of `report.Measured`; what it does not say is missing.

    Up to 0.25 it has what others than PyTorch took in `non_torch_memory`; since then that is in `total_consumed`,
    with the weights, and the estimate of what graphs will take is added to the activations.
    """
    weights = _whole(worker, "model_runner", "model_memory_usage")
    activation = _whole(worker, "peak_activation_memory")
    other = _whole(worker, "non_torch_memory")
    consumed = _whole(worker, "total_consumed")
    if consumed is not None and other is None:
        other = None if weights is None else consumed - weights
        estimated = environment.get("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS", "1") != "0"
        if activation is not None and estimated:
            activation -= _whole(worker, "cudagraph_memory_estimate") or 0
    cache = _whole(worker, "available_kv_cache_memory_bytes")
    requested = _whole(worker, "requested_memory")
    if requested is not None and weights is not None and activation is not None and cache is not None:
        # With what its older runner sets aside for graphs, which it says nowhere in all versions.
        other = max(other or 0, requested - weights - activation - cache)
    if cache is None:  # given, and not worked out of what was measured
        cache = _whole(worker, "cache_config", "kv_cache_memory_bytes")
    found = {"weights_bytes": weights, "activation_bytes": activation, "other_bytes": other, "kv_cache_bytes": cache}
    return {name: size for name, size in found.items() if size is not None and size >= 0}


def _whole(thing: Any, *names: str) -> int | None:
    for name in names:
        thing = getattr(thing, name, None)
    return int(thing) if isinstance(thing, int | float) and not isinstance(thing, bool) else None


def fullest(workers: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Pick the worker whose GPU has least left: that with the smallest KV cache, or else with most weights."""
    ranked = sorted(workers, key=lambda one: (one.get("kv_cache_bytes", math.inf), -one.get("weights_bytes", 0)))
    return dict(ranked[0]) if ranked else {}


def of_config(config: Any) -> dict[str, int]:
    """Say how many sequences and tokens a `VllmConfig` lets an engine take on at once."""
    found = {name: _whole(config, "scheduler_config", name) for name in ("max_num_seqs", "max_num_batched_tokens")}
    return {name: count for name, count in found.items() if count is not None}


def captures(config: Any) -> bool:
    """Tell whether an engine with this `VllmConfig` has CUDA graphs, as far as that is known."""
    eager = getattr(getattr(config, "model_config", None), "enforce_eager", False)
    mode = getattr(getattr(config, "compilation_config", None), "cudagraph_mode", None)
    return not eager and getattr(mode, "name", "") != "NONE"


def graphs_bytes(lines: Iterable[str]) -> int | None:
    """Find what the CUDA graphs took on one GPU in an engine's log; `None` if it does not say.

    A worker may capture twice, at first only to see how much that takes; the last time counts.
    """
    last: dict[str, float] = {}
    for line in lines:
        if found := _CAPTURED.match(_COLORS.sub("", line)):
            last[found[1] or ""] = float(found[2])
    return max(0, int(max(last.values()) * (1 << 30))) if last else None


def read_log(path: pathlib.Path) -> list[str]:
    """Read the log of a start.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return file.read(_LOG_BYTES).decode(errors="replace").splitlines()
