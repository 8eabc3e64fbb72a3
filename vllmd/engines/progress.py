"""How far the start of an engine is, read from what vLLM prints.

vLLM has no other way to tell: EngineCore and the workers only log. A text that vLLM changes costs a phase
that people don't see, nothing else.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Sequence

from vllmd.worker.spec import Progress as WorkerProgress


class Phase(enum.IntEnum):
    """What a start is busy with, in the order in which these come."""

    WAITING = 1
    SPAWNING = 2
    IMPORTING = 3
    INITIALIZING = 4
    LOADING_WEIGHTS = 5
    COMPILING = 6
    PROFILING = 7
    CAPTURING_GRAPHS = 8
    DONE = 9


@dataclasses.dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a start is."""

    phase: Phase = Phase.WAITING
    weights_fraction: float | None = None
    """Of the weight files, 0 to 1; `None` when vLLM does not say."""
    message: str = ""


_SHARDS = re.compile(r"Loading .*checkpoint shards:\s+(\d+)% Completed \| (\d+/\d+)")
_GRAPHS = re.compile(r"Capturing CUDA graphs.*?:\s+(\d+)%\|[^|]*\| (\d+/\d+)")
_MARKS = (
    ("Initializing a V1 LLM engine", Phase.INITIALIZING, "EngineCore is up"),
    ("Starting to load model", Phase.LOADING_WEIGHTS, "loading weights"),
    ("Dynamo bytecode transform", Phase.COMPILING, "torch.compile"),
    ("Compiling a graph", Phase.COMPILING, "torch.compile"),
    ("torch.compile and initial profiling", Phase.PROFILING, "profiling memory"),
    ("torch.compile took", Phase.PROFILING, "profiling memory"),
    ("Available KV cache memory", Phase.PROFILING, "profiling memory"),
    ("GPU KV cache size", Phase.PROFILING, "allocating the KV cache"),
)
_EVENTS = {
    "started": LoadProgress(Phase.SPAWNING, message="started"),
    "importing": LoadProgress(Phase.IMPORTING, message="importing vLLM"),
    "initializing": LoadProgress(Phase.INITIALIZING, message="building the engine"),
    "listening": LoadProgress(Phase.DONE, 1.0, "loaded"),
}


def advance(progress: LoadProgress, events: Sequence[WorkerProgress], lines: Sequence[str]) -> LoadProgress:
    """Work out the progress after some events of the worker and new lines of the log; it never goes back."""
    for event in events:
        progress = _later(progress, _EVENTS.get(event.event))
    for line in lines:
        progress = _later(progress, _read(line))
    return progress


def _read(line: str) -> LoadProgress | None:
    if match := _SHARDS.search(line):
        return LoadProgress(Phase.LOADING_WEIGHTS, int(match[1]) / 100, f"loading weights {match[2]}")
    if match := _GRAPHS.search(line):
        return LoadProgress(Phase.CAPTURING_GRAPHS, 1.0, f"capturing CUDA graphs {match[2]}")
    for text, phase, message in _MARKS:
        if text in line:
            return LoadProgress(phase, None, message)
    return None


def _later(old: LoadProgress, new: LoadProgress | None) -> LoadProgress:
    if new is None or new.phase < old.phase:
        return old
    if new.weights_fraction is None:
        # Past the weights they are all there; before, what is known stays known.
        known = 1.0 if new.phase > Phase.LOADING_WEIGHTS else old.weights_fraction
        return dataclasses.replace(new, weights_fraction=known)
    return new
