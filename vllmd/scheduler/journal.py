"""What this daemon owns, written down for the one that comes after it: engines, and the leases on them.

The directory of an engine proves that there is one; the journal says what it was started for and who holds it. It is
written before a spawn and after each change, whole, under another name first, so that a reader finds the old one or
the new one. Leases are secrets, so nobody else may read it. A disk that is full costs adoptions, never a kill.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

import msgspec

from vllmd.engines import predecessor
from vllmd.engines.diagnosis import Failure
from vllmd.planner.planning import Plan
from vllmd.scheduler.wish import Wish
from vllmd.tasks import spawn

VERSION = 1
"""Stays for as long as what is new has a default: an upgrade, or the way back from one, must cost no engine."""
_PAUSE_SECONDS = 0.05
"""Changes come in bursts: what happens within this is written once."""
_MAX_BYTES = 64 << 20
_LAST = 253_402_300_799.0
"""The last second that a `google.protobuf.Timestamp` can tell: in the year 9999."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RestartRecord:
    """The start after a failure that was decided on and not made yet."""

    due: float
    """Seconds since the epoch."""
    failure: Failure
    reclaimed: bool
    """True once what had failed was proven to be gone: whatever runs after that is of the new start."""
    counts: bool
    """False if it costs nothing of the budget."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """One engine that had not ended."""

    id: str
    model: str
    revision: str
    engine_args: dict[str, Any]
    """What its client set."""
    auto_config: bool
    plan: Plan | None
    created: float
    """Seconds since the epoch, as are the following."""
    spawned: float | None
    ready: float | None
    restarted: list[float]
    restart: RestartRecord | None = None
    """`None` also in journals of daemons that did not write it."""
    use_case: str = ""
    lora: dict[str, str] = dataclasses.field(default_factory=dict)
    """Directories of LoRA adapters, by name."""

    @property
    def wish(self) -> Wish:
        """What it was started for."""
        return Wish(self.model, self.revision, self.engine_args, self.auto_config, self.use_case, self.lora)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """One lease."""

    id: str
    engine_id: str
    ttl: float | None
    """Seconds; `None` for one that was held by a stream."""
    expires: float | None
    """Seconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The whole journal."""

    version: int = VERSION
    boot_id: str
    engines: list[EngineRecord]
    leases: list[LeaseRecord]
    left_well: bool = False
    """Whether the daemon left its engines on purpose, for an upgrade, and did not just die."""


def write(path: pathlib.Path, contents: Contents) -> None:
    """Write the journal, so that it is on the disk when this returns.

    Raises:
        OSError: it can't be; the old one is still there then.
    """
    new = path.with_name(f"{path.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(msgspec.json.encode(contents))
        file.flush()
        os.fsync(fd)
    new.rename(path)


def read(path: pathlib.Path, boot_id: str) -> Contents | None:
    """Read the journal of an earlier daemon; `None` if there is none that makes sense in this boot."""
    try:
        with path.open("rb") as file:
            contents = msgspec.json.decode(file.read(_MAX_BYTES), type=Contents)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _log.error("the journal %s can't be read: %s", path, error)
        return None
    if contents.version != VERSION:
        _log.error("the journal %s is of version %d, and this daemon reads %d", path, contents.version, VERSION)
        return None
    if not all(map(_is_sensible, contents.engines)):
        _log.error("the journal %s names engines or times that can't be", path)
        return None
    return contents if contents.boot_id == boot_id else None


def _is_sensible(record: EngineRecord) -> bool:
    """Tell whether what an engine's record says may be used for names of files, and as times."""
    times = [record.created, record.spawned, record.ready, *record.restarted]
    times += [record.restart.due] if record.restart is not None else []
    return predecessor.is_id(record.id) and all(time is None or 0 <= time <= _LAST for time in times)


class Journal:
    """Keeps the journal up to date.

    Args:
        path: where it is; `None` for a daemon that leaves none.
        contents: makes what is to be written, of the state at that moment.
    """

    def __init__(self, path: pathlib.Path | None, contents: Callable[[], Contents]) -> None:
        self._path = path
        self._contents = contents
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._begun = 0
        """How many times it was begun to be written."""
        self._failing = False

    def touch(self) -> None:
        """Have it written soon."""
        self._changed.set()

    async def save(self) -> bool:
        """Have it written before this returns; what goes wrong is logged: no work may depend on a disk that is full.

        Many at once are served by one write that begins after they asked. A caller that is cancelled leaves the write
        to its end, as two at a time would spoil the file.

        Returns:
            Whether it is written.
        """
        await asyncio.shield(spawn("write the journal", self._save(self._begun + 1)))
        return not self._failing

    async def _save(self, needed: int) -> None:
        async with self._writing:
            if self._begun >= needed:
                return
            self._begun += 1
            self._changed.clear()
            if self._path is None:
                return
            try:
                await asyncio.to_thread(write, self._path, self._contents())
            except OSError as error:
                if not self._failing:
                    _log.error("the journal can't be written; a later daemon will not take over engines: %s", error)
                self._failing = True
            else:
                self._failing = False

    async def remove(self) -> None:
        """Remove it, and write it no more: nothing is left that a later daemon could take over.

        One that can't be removed is no reason to end badly: it names engines that a later daemon will not find.
        """
        async with self._writing:
            path, self._path = self._path, None
            if path is None:
                return
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                if not self._failing:
                    _log.error("the journal can't be removed: %s", error)

    async def keep(self) -> None:
        """Write it after each change, until cancelled."""
        while True:
            await self._changed.wait()
            await self.save()
            await asyncio.sleep(_PAUSE_SECONDS)
