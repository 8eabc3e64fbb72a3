"""One run of an engine, from its spawn or its adoption to its end: directory, processes, link, and a watch on them.

It does and tells; what anything means for the engine is for the supervisor to decide.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from vllmd.engines import logs, stacks, stall, starting
from vllmd.engines.directory import Owned
from vllmd.engines.ground import Ground
from vllmd.engines.link import Link
from vllmd.engines.process import EngineProcess
from vllmd.engines.progress import LoadProgress
from vllmd.engines.reclaim import Remains
from vllmd.engines.tree_watch import TreeWatch
from vllmd.errors import VllmdError
from vllmd.gpu.inventory import Gpu, fuller
from vllmd.gpu.ledger import Expectation
from vllmd.tasks import spawn
from vllmd.worker.processes import Identity, terminate
from vllmd.worker.report import EngineInfo

_HOUSEKEEPING_SECONDS = 5.0
_LAST_WORDS_SECONDS = 0.2
"""A killed worker's link breaks some moments before the kernel says how it ended, which is what people want to know."""


class Told(Protocol):
    """Who is told what happens."""

    def advanced(self, progress: LoadProgress) -> None:
        """The start is further."""

    def loaded(self) -> None:
        """It serves."""

    def not_loaded(self, errors: tuple[str, ...]) -> None:
        """The worker said that it can't be started, with what it raised, or did not speak as it should."""

    def late(self) -> None:
        """It was not ready in time."""

    def worker_ended(self, how: str) -> None:
        """The worker has ended, and how."""

    def broke(self, what: str) -> None:
        """Something else of it ended, or says that it has failed for good."""

    def stalled(self, why: str) -> None:
        """It hangs."""


class Incarnation:
    """One run of an engine.

    Args:
        engine_id: its name.
        owned: its directory.
        process: its worker.
        ground: what it shares with other engines.
        told: who is told what happens.
    """

    def __init__(self, engine_id: str, owned: Owned, process: EngineProcess, ground: Ground, told: Told) -> None:
        self.owned = owned
        self.process = process
        self.link: Link | None = None
        self.info: EngineInfo | None = None
        self._id = engine_id
        self._ground = ground
        self._told = told
        self._watch = TreeWatch(process, told.worker_ended, told.broke)
        self._last_words: asyncio.TimerHandle | None = None
        self._generated = 0
        self._loaded: tuple[Gpu, ...] = ()
        self._terminated: float | None = None
        self._tasks = [
            spawn(f"start {engine_id}", self._start()),
            spawn(f"housekeeping {engine_id}", self._keep_house()),
        ]

    @property
    def seen(self) -> frozenset[Identity]:
        """Every process that was ever seen in its tree."""
        return frozenset(self._watch.seen)

    @property
    def generated_tokens(self) -> int:
        """Tokens that it has generated."""
        return self.link.generated_tokens if self.link is not None else self._generated

    def lines(self, count: int) -> list[str]:
        """Read the last lines of its log."""
        return logs.tail(self.owned.log, count)

    def reported_errors(self) -> tuple[str, ...]:
        """Read what the worker said of a failed start."""
        return starting.reported_errors(self.owned.path)

    async def _start(self) -> None:
        """Follow the start until the worker listens, then link up with it."""
        try:
            async with asyncio.timeout(self._ground.rules.load_timeout):
                link = await starting.follow(self.owned.path, self._told.advanced, self._link_closed)
        except starting.StartFailed as error:
            self._told.not_loaded(error.errors)
        except TimeoutError:
            self._told.late()
        else:
            self.link, self.info = link, link.hello.engine
            await self._watch.watch_parts()
            self._tasks.append(spawn(f"vitals of {self._id}", self._feel_pulse(link)))
            self._told.loaded()

    def _link_closed(self, why: str) -> None:
        later = asyncio.get_running_loop().call_later
        self._last_words = later(_LAST_WORDS_SECONDS, self._told.broke, why)

    async def _feel_pulse(self, link: Link) -> None:
        """Ask after the engine's health until it hangs."""
        while (why := stall.diagnose(link.vitals, time.monotonic(), self._ground.rules.stall_timeout)) is None:
            link.ping()
            await asyncio.sleep(min(1.0, self._ground.rules.stall_timeout / 4))
        await stacks.dump(self.process.tree, self.owned.log)
        self._told.stalled(why)

    async def _keep_house(self) -> None:
        """Keep the log from filling the disk."""
        limit = logs.Limit(self.owned.log)
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            await asyncio.to_thread(limit.enforce, self._ground.rules.log_limit_bytes)

    def terminate(self, error: VllmdError, uuids: frozenset[str]) -> None:
        """Ask the worker to end; its streams end with *error*."""
        self._close_link(error)
        self._terminated = time.monotonic()
        earlier = self._ground.monitor.last.named(uuids)
        self._tasks.append(spawn(f"look at {self._id}", self._look(uuids, earlier)))
        terminate(self.process.identity)

    async def _look(self, uuids: frozenset[str], earlier: tuple[Gpu, ...]) -> None:
        """Note what its GPUs hold while it is still loaded: a clean shutdown gives that back before the reclaim."""
        if uuids:
            self._loaded = fuller(earlier, (await self._ground.monitor.snapshot()).named(uuids))

    def let_go(self, error: VllmdError) -> None:
        """Stop everything that waits for something from it; its streams end with *error*."""
        self._close_link(error)
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self._watch.close()
        if self._last_words is not None:
            self._last_words.cancel()

    def remains(self, expected: tuple[Expectation, ...]) -> Remains:
        """Say what there may be left of it."""
        return Remains(
            self.process.tree,
            self.owned.path,
            known=tuple(self.seen),
            expected=expected,
            loaded=self._loaded,
            shutdown_seconds=None if self._terminated is None else time.monotonic() - self._terminated,
        )

    def disown(self) -> None:
        """Answer for it no more: it is gone."""
        self.process.how_it_ended()
        self.owned.disown()

    def _close_link(self, error: VllmdError) -> None:
        if self.link is not None:
            self.link.close(error)
            self._generated = self.link.generated_tokens
            self.link = None  # with all that was still to be sent
