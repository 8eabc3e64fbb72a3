"""What a plan is put together from: one choice for each engine argument, and why there is none where there is none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

PARALLEL_SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
"""An engine has as many GPUs as these come to, multiplied."""

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
class Remedy:
    """One thing that would make a model fit."""

    text: str
    """For people, such as `kv_cache_dtype=fp8 (max_model_len=65536)`."""
    engine_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """To set, where that is all there is to do."""
    engines: tuple[str, ...] = ()
    """Engines that would have to leave."""


@dataclasses.dataclass(frozen=True, slots=True)
class Infeasible:
    """Why there is no plan."""

    reason: str
    """For programs, such as `GPU_MEMORY_EXHAUSTED`."""
    message: str
    """For people: what is missing where."""
    numbers: Mapping[str, int | str]
    """What of the message programs may want: bytes and counts, and names that were set."""
    forever: bool
    """True if it can't fit this host whatever leaves it."""
    invalid: bool = False
    """True if what the client set is the cause, and the same can never work."""
    remedies: tuple[Remedy, ...] = ()
    """What would make it fit, the least first."""

    @property
    def advice(self) -> str:
        """The message, and what would help."""
        if not self.remedies:
            return self.message
        return f"{self.message} What would make it fit: {self.help}."

    @property
    def help(self) -> str:
        """All that would help, in one line; empty if nothing is known to."""
        return "; ".join(remedy.text for remedy in self.remedies)


class Draft:
    """The engine arguments of a plan in the making; each is settled once, by whoever comes first.

    Args:
        choices: those that are settled already.
    """

    def __init__(self, choices: Mapping[str, Choice] | None = None) -> None:
        self._choices = dict(choices or {})

    def copy(self) -> Draft:
        """Make another that starts with the same."""
        return Draft(self._choices)

    def choose(self, name: str, value: Any, source: Source, reason: str) -> None:
        """Settle an argument, unless it is."""
        self._choices.setdefault(name, Choice(name, value, source, reason))

    def lower(self, name: str, value: Any, reason: str) -> None:
        """Settle an argument anew, because what was chosen for it, or left to vLLM, does not fit the hardware."""
        self._choices[name] = Choice(name, value, "hardware", reason)

    def __contains__(self, name: str) -> bool:
        return name in self._choices

    def get(self, name: str, otherwise: Any = None) -> Any:
        """Get the value of an argument, or *otherwise* while it is open."""
        choice = self._choices.get(name)
        return otherwise if choice is None or choice.value is None else choice.value

    def count(self, name: str, otherwise: int | None = None) -> int | None:
        """Get a positive whole number; *otherwise* if it is open or makes no sense."""
        return whole_number(self.get(name)) or otherwise

    def wanted_gpus(self) -> int:
        """Say how many GPUs the parallel sizes come to; one that is open counts as 1."""
        return math.prod(self.count(name, 1) or 1 for name in PARALLEL_SIZES)

    def source(self, name: str) -> Source | None:
        """Say who settled an argument."""
        choice = self._choices.get(name)
        return None if choice is None else choice.source

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All of them, in the order in which they were settled."""
        return tuple(self._choices.values())

    @property
    def engine_args(self) -> dict[str, Any]:
        """The arguments alone, by name."""
        return {choice.name: choice.value for choice in self._choices.values()}


def whole_number(value: Any) -> int | None:
    """Read a positive whole number of a sensible size; `None` for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST else None


def gib(size: float) -> str:
    """Write bytes for people."""
    return f"{size / (1 << 30):.1f} GiB"


def parts(whole: int, part: int) -> int:
    """Divide, rounding up."""
    return -(-whole // part)
