"""GPUs on which nothing is placed, because what was killed there did not give its memory back."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Hashable

from vllmd.events import Events, Kind


@dataclasses.dataclass(frozen=True, slots=True)
class Quarantine:
    """Why one GPU is left alone."""

    uuid: str
    reason: str
    since: float
    """Seconds since the epoch."""
    engine: str = ""
    """The id of the engine that could not be reclaimed; empty for another program's process."""


class Quarantines:
    """The GPUs in quarantine; putting one in and letting one out are events.

    Args:
        events: where that is recorded.
        clock: seconds since the epoch.
    """

    def __init__(self, events: Events, clock: Callable[[], float] = time.time) -> None:
        self._events = events
        self._clock = clock
        self._quarantined: dict[str, Quarantine] = {}
        self._held_by: dict[str, set[Hashable]] = {}

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._quarantined

    def get(self, uuid: str) -> Quarantine | None:
        """Tell why a GPU is in quarantine; `None` if it is not."""
        return self._quarantined.get(uuid)

    def put(self, uuid: str, reason: str, engine: str = "", *, holder: Hashable) -> None:
        """Put a GPU into quarantine; the first reason is told until it is let out.

        Args:
            uuid: the GPU.
            reason: why.
            engine: the id of the engine that could not be reclaimed, if it is one.
            holder: on whose account; the memory of one process may be back before another's.
        """
        self._held_by.setdefault(uuid, set()).add(holder)
        if uuid not in self._quarantined:
            self._quarantined[uuid] = Quarantine(uuid, reason, self._clock(), engine)
            message = f"GPU {uuid} is in quarantine: no engine is placed there. An operator should look at it."
            self._events.record(Kind.QUARANTINE, message, reasons=[reason], engine=engine, gpus=[uuid])

    def lift(self, uuid: str, reason: str, *, holder: Hashable) -> None:
        """Let a GPU out again, unless it is in on another account as well."""
        held_by = self._held_by.get(uuid, set())
        held_by.discard(holder)
        if held_by or uuid not in self._quarantined:
            return
        quarantine = self._quarantined.pop(uuid)
        message = f"GPU {uuid} is used again after {self._clock() - quarantine.since:.0f} s in quarantine."
        self._events.record(Kind.QUARANTINE_END, message, reasons=[reason], engine=quarantine.engine, gpus=[uuid])
