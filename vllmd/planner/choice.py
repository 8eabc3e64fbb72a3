"""One engine argument of a plan, with why it has its value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

_LARGEST = 1 << 40

Source = Literal["client", "host", "use case", "hardware", "model", "profile", "auto"]
"""Who or what decided: the caller, this host's configuration, the use case, the GPUs, the model, what an earlier load
took, or none of them but a rule of vllmd's own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One engine argument and why it has its value."""

    name: str
    value: Any
    source: Source
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Infeasible:
    """Why there is no plan."""

    reason: str
    """For programs, such as `GPU_MEMORY_EXHAUSTED`."""
    message: str
    """For people: what is missing, and what would help."""
    numbers: Mapping[str, int]
    forever: bool
    """True if it can't fit this host whatever leaves it."""
    invalid: bool = False
    """True if what the client set is the cause, and the same can never work."""


def whole_number(value: Any) -> int | None:
    """Read a positive whole number of a sensible size; `None` for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST else None


def gib(size: float) -> str:
    """Write bytes for people."""
    return f"{size / (1 << 30):.1f} GiB"


def parts(whole: int, part: int) -> int:
    """Divide, rounding up."""
    return -(-whole // part)
