"""What this daemon decided and did: each a line of its log, and kept for whoever watches."""

from __future__ import annotations

import collections
import dataclasses
import enum
import hashlib
import logging
import time
from collections.abc import Callable, Collection

from vllmd.tasks import Signal

KEPT = 1000
"""How many of the last events are kept; who reads more slowly than that misses some, and is told how many."""

_log = logging.getLogger("vllmd.events")


class Kind(enum.StrEnum):
    """What kind of thing happened; `proto/vllmd/v1/event.proto` says what each means."""

    DAEMON = "DAEMON"
    ENGINE = "ENGINE"
    VERDICT = "VERDICT"
    KILL = "KILL"
    RECLAIM = "RECLAIM"
    QUARANTINE = "QUARANTINE"
    QUARANTINE_END = "QUARANTINE_END"
    RESTART = "RESTART"
    ADOPTION = "ADOPTION"
    STALL = "STALL"
    LEAK = "LEAK"
    GPU_LOST = "GPU_LOST"
    GPU_BACK = "GPU_BACK"


_WARNINGS = frozenset({Kind.KILL, Kind.QUARANTINE, Kind.RESTART, Kind.STALL, Kind.LEAK, Kind.GPU_LOST})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One decision or observation."""

    sequence: int
    """Counts up from 1."""
    time: float
    """Seconds since the epoch."""
    kind: Kind
    message: str
    reasons: tuple[str, ...] = ()
    engine: str = ""
    """An engine's id."""
    gpus: tuple[str, ...] = ()
    """UUIDs."""
    pids: tuple[int, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    """The numbers and names that appear in the message."""
    model: str = ""
    """What the engine loads, where that is known."""

    def line(self) -> str:
        """Write it as a line of a log, `key=value` where there is one."""
        parts = [self.message]
        parts += [f"because {', '.join(self.reasons)}"] if self.reasons else []
        parts += [f"engine={self.engine}"] if self.engine else []
        parts += [f"gpus={','.join(self.gpus)}"] if self.gpus else []
        parts += [f"pids={','.join(map(str, self.pids))}"] if self.pids else []
        return f"{self.kind}: " + " ".join(parts)

    def fields(self) -> dict[str, str]:
        """Name what it is about, for a log that can be searched by fields: those of `log_fields`."""
        return log_fields(EVENT=self.kind, ENGINE=self.engine, GPU=",".join(self.gpus), MODEL=self.model)


def log_fields(**fields: str) -> dict[str, str]:
    """Make the `extra` of a line of the log, which journald keeps as fields; those that are empty are left out.

    `ENGINE`, `GPU`, `MODEL`, `EVENT`, and `LEASE`, of which only a digest is written: whoever knows a lease can use it.
    """
    if lease := fields.get("LEASE"):
        fields["LEASE"] = hashlib.sha256(lease.encode()).hexdigest()[:12]
    return {name: value for name, value in fields.items() if value}


class Events:
    """The last events, and a signal for each new one.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.changed = Signal()
        self._clock = clock
        self._kept: collections.deque[Event] = collections.deque(maxlen=KEPT)
        self._last = 0

    @property
    def last(self) -> int:
        """The sequence number of the newest event; 0 before the first."""
        return self._last

    def record(
        self,
        kind: Kind,
        message: str,
        *,
        reasons: Collection[str] = (),
        engine: str = "",
        gpus: Collection[str] = (),
        pids: Collection[int] = (),
        model: str = "",
        **metadata: object,
    ) -> Event:
        """Write down what happened, in the log and for whoever watches."""
        self._last += 1
        event = Event(
            sequence=self._last,
            time=self._clock(),
            kind=kind,
            message=message,
            reasons=tuple(reasons),
            engine=engine,
            gpus=tuple(gpus),
            pids=tuple(pids),
            metadata=tuple((name, str(value)) for name, value in metadata.items()),
            model=model,
        )
        self._kept.append(event)
        level = logging.WARNING if kind in _WARNINGS else logging.INFO
        _log.log(level, "%s", event.line(), extra=event.fields())
        self.changed.notify()
        return event

    @property
    def newest(self) -> Event | None:
        """The last one; `None` before the first."""
        return self._kept[-1] if self._kept else None

    def after(self, sequence: int) -> tuple[list[Event], int]:
        """List the events after one, oldest first, and count those that are not kept any more."""
        found = [event for event in self._kept if event.sequence > sequence]
        first = found[0].sequence if found else self._last + 1
        return found, first - sequence - 1
