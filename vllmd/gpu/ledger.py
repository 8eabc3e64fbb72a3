"""What each GPU should hold, so that what it holds too much is seen.

A before-and-after comparison can't tell: neighbours come and go, and a process that crashed has given its memory back
before anybody looks. So there is a book for each GPU: a floor, which is what the driver keeps for itself whoever is
there, and what each of our engines was seen to take. Where NVML says what each process holds, the memory that no
living process accounts for must come down to the floor; where it does not, as in containers, all that is in use must
come down to the floor and what our other engines hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from vllmd.gpu.inventory import Gpu

TOLERANCE_BYTES = 64 << 20
"""What a GPU may hold more than expected: the driver's own bookkeeping moves by some MiB."""


@dataclasses.dataclass(frozen=True, slots=True)
class Expectation:
    """What one GPU should hold once an engine has left it."""

    uuid: str
    floor_bytes: int
    """In use, and by no process that counts."""
    neighbours_bytes: int = 0
    """What our other engines on it hold; counts where NVML does not say what each process holds."""


def excess_bytes(now: Gpu, expected: Expectation) -> int:
    """Tell how much more a GPU holds than it should; negative if less."""
    unaccounted = now.unaccounted_bytes
    if unaccounted is not None:
        return unaccounted - expected.floor_bytes
    return now.used_bytes - expected.floor_bytes - expected.neighbours_bytes


def is_back(now: Gpu, expected: Expectation, dead: Collection[int]) -> bool:
    """Tell whether a GPU has back what the processes *dead* held: none is listed, and nothing is held for nobody."""
    if any(process.pid in dead for process in now.processes):
        return False
    return excess_bytes(now, expected) <= TOLERANCE_BYTES


def not_back(
    gpus: Iterable[Gpu], expectations: Iterable[Expectation], dead: Collection[int]
) -> tuple[Expectation, ...]:
    """Pick the GPUs that do not have back what the dead held; of one that can't be read, that is not known."""
    by_uuid = {gpu.uuid: gpu for gpu in gpus}
    return tuple(one for one in expectations if one.uuid not in by_uuid or not is_back(by_uuid[one.uuid], one, dead))


class Ledger:
    """The book of all GPUs."""

    def __init__(self) -> None:
        self._floors: dict[str, int] = {}
        self._holdings: dict[str, dict[str, int]] = {}
        """By engine, then by GPU."""

    def observe(self, gpu: Gpu) -> None:
        """Learn the floor of a GPU from a look at it while nobody starts or ends there: the lowest ever seen counts.

        A floor that was too high, as somebody else's dead process had not been cleaned up, so mends itself.
        """
        seen = gpu.unaccounted_bytes
        if seen is None:
            seen = gpu.used_bytes - self._held(gpu.uuid)
        self._floors[gpu.uuid] = min(max(0, seen), self._floors.get(gpu.uuid, max(0, seen)))

    def remember(self, expected: Expectation) -> None:
        """Take over what an earlier daemon knew."""
        self._floors[expected.uuid] = min(expected.floor_bytes, self._floors.get(expected.uuid, expected.floor_bytes))

    def enter(self, engine_id: str, holdings: Mapping[str, int]) -> None:
        """Write down what an engine holds, in bytes by GPU."""
        self._holdings[engine_id] = dict(holdings)

    def strike(self, engine_id: str) -> None:
        """Strike out an engine that is gone."""
        self._holdings.pop(engine_id, None)

    def holding(self, engine_id: str) -> Mapping[str, int]:
        """Look up what an engine was seen to hold, in bytes by GPU."""
        return self._holdings.get(engine_id, {})

    def expectation(self, gpu: Gpu, without: str = "") -> Expectation:
        """Say what a GPU should hold once the engine *without* is gone; a GPU never observed is taken as it is."""
        floor = self._floors.get(gpu.uuid)
        if floor is None:
            unaccounted = gpu.unaccounted_bytes
            floor = gpu.used_bytes if unaccounted is None else unaccounted
        return Expectation(gpu.uuid, floor, self._held(gpu.uuid, without))

    def _held(self, uuid: str, without: str = "") -> int:
        return sum(held.get(uuid, 0) for engine_id, held in self._holdings.items() if engine_id != without)
