"""All that loads took: in memory, where plans look it up, and written behind, where it outlasts the daemon.

No load and no plan waits for the disk. A file that can't be written is told once and tried again with the next load; a
broken one is moved aside; one of a later vllmd is left alone.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Awaitable, Callable

from vllmd.errors import Unavailable
from vllmd.planner.profile import Key, Profile
from vllmd.profiles import file
from vllmd.profiles.record import Record, profile_of
from vllmd.tasks import in_thread, spawn
from vllmd.worker.report import EngineInfo

NAME = "profiles.sqlite3"
_READ_SECONDS = 5.0
_WRITE_SECONDS = 15.0
_MOST_COUNTED = (1 << 31) - 1

_log = logging.getLogger(__name__)


async def _nobody_knows() -> str | None:
    return None


class Profiles:
    """What loads took, by key and by version of vLLM.

    Args:
        path: the file; `None` to remember only as long as this daemon runs.
        installed: finds out which vLLM the engines' interpreter has now, if that is known.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        path: pathlib.Path | None = None,
        installed: Callable[[], Awaitable[str | None]] = _nobody_knows,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._installed = installed
        self._clock = clock
        self._records: collections.OrderedDict[tuple[Key, str], Record] = collections.OrderedDict()
        """The oldest first."""
        self._unwritten: dict[tuple[Key, str], Record | None] = {}
        """What the file has yet to be told; `None` for what is to go."""
        self._writing: asyncio.Task[None] | None = None
        self._failing = False
        self._version: str | None = None
        self._told = ""
        """What the last engine said that had another one; whoever does not answer is not asked again for that."""
        self._asked = False
        self._asking = asyncio.Lock()

    async def open(self) -> None:
        """Read the file; whatever is wrong with it is logged, and the daemon goes on without."""
        if self._path is None:
            return
        try:
            found = await in_thread(f"reading {self._path}", functools.partial(file.read, self._path), _READ_SECONDS)
        except file.Broken as error:
            await self._begin_anew(self._path, error)
        except (file.Newer, Unavailable) as error:
            _log.error("%s is neither read nor written: %s", self._path, error)
            self._path = None
        except file.Unusable as error:
            _log.error("%s can't be read, so plans do not know what earlier loads took: %s", self._path, error)
        else:
            self._records.update((record.id, record) for record in found)

    async def prepare(self) -> None:
        """Find out which vLLM is installed, if anything is to be looked up and that is not known yet."""
        async with self._asking:
            if self._records and not self._asked:
                self._version, self._asked = await self._installed(), True
                self._told = self._told if self._version is None else ""

    def lookup(self, key: Key) -> Profile | None:
        """Look up what a load took with the vLLM that is installed; where that is not known, with whichever."""
        if self._version is not None:
            record = self._records.get((key, self._version))
        else:
            record = next((one for one in reversed(self._records.values()) if one.key == key), None)
        return record.profile if record is not None else None

    def learn(self, model: str, key: Key | None, info: EngineInfo, peak_bytes: int | None) -> bool:
        """Remember what a load took, in place of what the last one like it did; tell whether there was enough to.

        Args:
            model: as its client named it.
            key: what the plan says is to be remembered; `None` for nothing.
            info: what the engine reports.
            peak_bytes: the most that NVML saw it hold on one GPU.
        """
        if info.vllm_version not in (self._version, self._told):
            self._told, self._asked = info.vllm_version, False  # it was upgraded
        profile = profile_of(info, peak_bytes, self._clock()) if key is not None and key.fingerprint else None
        if key is None or profile is None:
            return False
        record = Record(key=key, profile=profile, model=model)
        if (earlier := self._records.pop(record.id, None)) is not None:
            record = dataclasses.replace(record, load_count=min(earlier.load_count + 1, _MOST_COUNTED))
        self._records[record.id] = self._unwritten[record.id] = record
        while len(self._records) > file.MOST:
            oldest, _ = self._records.popitem(last=False)
            self._unwritten[oldest] = None
        self._write_soon()
        return True

    def all(self, model: str = "") -> list[Record]:
        """List the records, the newest first; of one model, or of all."""
        return [one for one in reversed(self._records.values()) if model in ("", one.model)]

    async def forget(self, model: str = "") -> int:
        """Forget what was recorded, of one model or of all; returns how many records that were.

        Raises:
            Unavailable: the file can't be written, and a later daemon will know it again.
        """
        forgotten = self.all(model)
        for record in forgotten:
            del self._records[record.id]
            self._unwritten[record.id] = None
        await self.flush()
        if self._failing and forgotten:
            message = f"Forgotten until the daemon starts again: {self._path} can't be written. Its log says why."
            raise Unavailable("PROFILES_NOT_WRITTEN", message, 10.0, path=self._path)
        return len(forgotten)

    async def flush(self) -> None:
        """Write what is not written yet, as far as that can be."""
        self._write_soon()
        if self._writing is not None:
            await asyncio.shield(self._writing)

    def _write_soon(self) -> None:
        if self._path is None:
            self._unwritten.clear()
        elif self._unwritten and (self._writing is None or self._writing.done()):
            self._writing = spawn("write the profiles", self._write(self._path))

    async def _write(self, path: pathlib.Path) -> None:
        """Write until nothing is left, or something is in the way: then that waits for the next load."""
        anew = False
        while self._unwritten:
            batch, self._unwritten = self._unwritten, {}
            work = functools.partial(file.write, path, batch)
            try:
                await in_thread(f"writing {path}", work, _WRITE_SECONDS)
            except file.Broken as error:
                if anew or not await self._begin_anew(path, error):
                    self._path = None  # what breaks again at once is no file for us
                    return
                anew = True
            except (file.Unusable, file.Newer, Unavailable) as error:
                self._unwritten = batch | self._unwritten
                if not self._failing:
                    _log.error("%s can't be written; a later daemon will not know what loads took: %s", path, error)
                self._failing = True
                return
            else:
                self._failing = False

    async def _begin_anew(self, path: pathlib.Path, error: file.Broken) -> bool:
        """Move a broken file aside, and have all that is known written to a new one; tell whether that can be."""
        try:
            aside = await in_thread(f"moving {path}", functools.partial(file.set_aside, path), _READ_SECONDS)
        except (OSError, Unavailable) as refusal:
            _log.error("%s is broken (%s) and can't be moved aside: %s", path, error, refusal)
            self._path = None
            return False
        _log.error("%s is broken (%s); it is now %s, and a new one is begun", path, error, aside.name)
        self._unwritten = dict(self._records)
        return True
