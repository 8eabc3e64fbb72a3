"""Memory in use that no process holds: driver bugs, processes that NVML does not list, dead ones that it lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

from vllmd.gpu.inventory import Gpu

LEAST_BYTES = 512 << 20
"""What a GPU may hold for nobody beyond the least that it was ever seen to: contexts of the driver come and go."""

LEAST_SECONDS = 10.0
"""A process that has just died is not listed any more, and its memory takes seconds to come back."""


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """A leak that began or ended."""

    uuid: str
    leaked_bytes: int
    ended: bool


class Leaks:
    """What each GPU was seen to hold for nobody."""

    def __init__(self) -> None:
        self._floors: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._told: set[str] = set()

    def observe(self, gpus: Iterable[Gpu], busy: Collection[str], now: float) -> list[News]:
        """Compare the GPUs with what they held before.

        Args:
            gpus: as they are now.
            busy: UUIDs of those where something loads or is reclaimed, and memory is rightly between two owners.
            now: seconds on any clock.
        """
        return [news for gpu in gpus if (news := self._observe(gpu, gpu.uuid in busy, now)) is not None]

    def _observe(self, gpu: Gpu, busy: bool, now: float) -> News | None:
        held = gpu.unaccounted_bytes
        if held is None:
            return None  # inside a container NVML does not say who holds what
        floor = self._floors[gpu.uuid] = min(held, self._floors.get(gpu.uuid, held))
        leaked = held - floor
        if leaked <= LEAST_BYTES:
            self._since.pop(gpu.uuid, None)
            if gpu.uuid in self._told:
                self._told.discard(gpu.uuid)
                return News(gpu.uuid, leaked, ended=True)
            return None
        if busy:
            self._since.pop(gpu.uuid, None)
            return None
        since = self._since.setdefault(gpu.uuid, now)
        if gpu.uuid in self._told or now - since < LEAST_SECONDS:
            return None
        self._told.add(gpu.uuid)
        return News(gpu.uuid, leaked, ended=False)
