"""Memory that is in use and should not be: for nobody, or by an engine beyond what it took when it was loaded.

The former are driver bugs, processes that NVML does not list, dead ones that it lost; the latter is a leak in vLLM or
in what it runs. Neither is acted upon: an operator is told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping

from vllmd.gpu.inventory import Gpu

LEAST_BYTES = 512 << 20
"""What may be in use beyond what should: contexts of the driver come and go, allocators grow by some hundred MiB."""

LEAST_SECONDS = 10.0
"""A process that has just died is not listed any more, and its memory takes seconds to come back."""


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """A leak that began or ended."""

    uuid: str
    leaked_bytes: int
    ended: bool
    engine: str = ""
    """The engine that holds too much; empty for memory that nobody holds."""

    @property
    def message(self) -> str:
        """Say it in a sentence."""
        size = f"{self.leaked_bytes / (1 << 30):.2f} GiB"
        match self.engine, self.ended:
            case "", False:
                return f"{size} of GPU {self.uuid} are in use, and no process holds them."
            case "", True:
                return f"GPU {self.uuid} has the memory back that no process held."
            case _, False:
                return f"The engine holds {size} more of GPU {self.uuid} than when it was loaded."
            case _:
                return f"The engine holds no more of GPU {self.uuid} than it should."


class Excesses:
    """Which of some figures have been too large for a while."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}
        self._told: set[tuple[str, str]] = set()

    def observe(self, engine: str, uuid: str, excess_bytes: int, busy: bool, now: float) -> News | None:
        """Take in one figure; returns what is new about it.

        Args:
            engine: whose; empty for nobody's.
            uuid: on which GPU.
            excess_bytes: how much there is too much.
            busy: whether something loads or is reclaimed there, and memory is rightly between two owners.
            now: seconds on any clock.
        """
        key = (engine, uuid)
        if excess_bytes <= LEAST_BYTES:
            self._since.pop(key, None)
            if key in self._told:
                self._told.discard(key)
                return News(uuid, max(0, excess_bytes), ended=True, engine=engine)
            return None
        if busy:
            self._since.pop(key, None)
            return None
        since = self._since.setdefault(key, now)
        if key in self._told or now - since < LEAST_SECONDS:
            return None
        self._told.add(key)
        return News(uuid, excess_bytes, ended=False, engine=engine)

    def forget(self, engines: Collection[str]) -> None:
        """Forget all engines but these."""
        kept = {"", *engines}
        self._since = {key: since for key, since in self._since.items() if key[0] in kept}
        self._told = {key for key in self._told if key[0] in kept}


class Leaks:
    """What each GPU was seen to hold for nobody, and each engine beyond its due."""

    def __init__(self) -> None:
        self._floors: dict[str, int] = {}
        self._excesses = Excesses()

    def observe(self, gpus: Iterable[Gpu], busy: Collection[str], now: float) -> list[News]:
        """Compare the GPUs with the least that they were ever seen to hold for nobody.

        Args:
            gpus: as they are now.
            busy: UUIDs of those where something loads or is reclaimed.
            now: seconds on any clock.
        """
        news = []
        for gpu in gpus:
            held = gpu.unaccounted_bytes
            if held is None:
                continue  # inside a container NVML does not say who holds what
            floor = self._floors[gpu.uuid] = min(held, self._floors.get(gpu.uuid, held))
            news.append(self._excesses.observe("", gpu.uuid, held - floor, gpu.uuid in busy, now))
        return [one for one in news if one is not None]

    def compare(
        self,
        held: Mapping[str, Mapping[str, int]],
        due: Callable[[str], Mapping[str, int]],
        now: float,
    ) -> list[News]:
        """Compare what engines hold with what they took when they were loaded.

        Args:
            held: bytes by engine, then by GPU.
            due: looks up the latter by engine, in bytes by GPU; nothing for one that has not been weighed.
            now: seconds on any clock.
        """
        self._excesses.forget(held.keys())
        news = [
            self._excesses.observe(engine, uuid, size - due(engine)[uuid], False, now)
            for engine, shares in held.items()
            for uuid, size in shares.items()
            if uuid in due(engine)
        ]
        return [one for one in news if one is not None]
