"""Durations, sizes and enums as people read and write them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.struct_pb2 import Value

    from vllmd.v1.engine_pb2 import Engine, EngineArg, LoadProgress
    from vllmd.v1.event_pb2 import Event
    from vllmd.v1.gpu_pb2 import Gpu, GpuLink, ProcessVerdict

_UNIT_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}
_STEPS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(d|h|m|s|)")


def duration(seconds: float) -> str:
    """Two units at most: `85ms`, `1.2s`, `42s`, `3m10s`, `10m`, `2h05m`, `3d04h`."""
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = round(seconds)
    for size, unit, smaller_size, smaller_unit in _STEPS:
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size}{unit}{rest:02}{smaller_unit}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def parse_duration(text: str) -> float:
    """Read `10m`, `1h30m`, `90s` or plain seconds; raises `ValueError` for anything else."""
    text = text.strip().lower()
    parts = _DURATION.findall(text)
    # A number without a unit is seconds, and only where it stands alone: `1h30` could mean either.
    bare = len(parts) > 1 and any(not unit for _, unit in parts)
    if not parts or bare or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; write 90s, 10m or 1h30m")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def gib(size_bytes: float) -> str:
    """`17.2 GiB`."""
    return f"{size_bytes / 2**30:.1f} GiB"


def count(number: int, noun: str) -> str:
    """`1 lease`, `2 leases`, `3 processes`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}es" if noun.endswith("s") else f"{number} {noun}s"


def gpu_numbers(gpus: Iterable[Gpu]) -> list[str]:
    """Number GPUs as NVML does, and the MIG slices of each: `0:0`, `0:1`, `1`."""
    slices: dict[str, int] = {}
    numbers = []
    for gpu in gpus:
        if gpu.mig_parent:
            slices[gpu.mig_parent] = slices.get(gpu.mig_parent, -1) + 1
        numbers.append(f"{gpu.index}:{slices[gpu.mig_parent]}" if gpu.mig_parent else str(gpu.index))
    return numbers


def short(name: str) -> str:
    """Leave out the collection of a resource name: `engines/qwen3-8b-3f2a` is `qwen3-8b-3f2a`."""
    return name.partition("/")[2] or name


def state(value: Engine.State.ValueType) -> str:
    """`READY`."""
    from vllmd.v1.engine_pb2 import Engine

    return _name(Engine.State, value, "STATE_")


def phase(value: LoadProgress.Phase.ValueType) -> str:
    """`loading weights`."""
    from vllmd.v1.engine_pb2 import LoadProgress

    return _name(LoadProgress.Phase, value, "PHASE_").lower().replace("_", " ")


def source(value: EngineArg.Source.ValueType) -> str:
    """`use case`."""
    from vllmd.v1.engine_pb2 import EngineArg

    return _name(EngineArg.Source, value, "SOURCE_").lower().replace("_", " ")


def verdict(value: ProcessVerdict.Verdict.ValueType) -> str:
    """`FOREIGN ORPHAN`."""
    from vllmd.v1.gpu_pb2 import ProcessVerdict

    return _name(ProcessVerdict.Verdict, value, "VERDICT_").replace("_", " ")


def path(value: GpuLink.Path.ValueType) -> str:
    """`NODE`."""
    from vllmd.v1.gpu_pb2 import GpuLink

    return _name(GpuLink.Path, value, "PATH_")


def kind(value: Event.Kind.ValueType) -> str:
    """`QUARANTINE END`."""
    from vllmd.v1.event_pb2 import Event

    return _name(Event.Kind, value, "KIND_").replace("_", " ")


def value(value: Value) -> str:
    """Write a value as `--set` reads it; protobuf has only doubles, and most of vLLM's numbers are whole."""
    from google.protobuf.json_format import MessageToDict

    plain = MessageToDict(value)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, float) and plain.is_integer():
        return str(int(plain))
    return json.dumps(plain)


def _name(enum: object, value: int, prefix: str) -> str:
    try:
        return str(enum.Name(value)).removeprefix(prefix)  # type: ignore[attr-defined]
    except ValueError:  # a newer daemon's value, which this client has no name for
        return str(value)
