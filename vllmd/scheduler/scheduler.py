"""Who keeps which engine loaded: waiting loads, leases and running generations, and what ends with the last."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, Unpack

from vllmd.config import Rules
from vllmd.engines.ground import Ground
from vllmd.engines.outdated import GenerateOptions
from vllmd.engines.state import State
from vllmd.engines.streams import Stream
from vllmd.errors import Exhausted, NotFound, Unavailable
from vllmd.gpu.quarantine import Quarantines
from vllmd.scheduler import adoption, leaving
from vllmd.scheduler.admission import Admission
from vllmd.scheduler.entry import Entry, owners
from vllmd.scheduler.journal import Contents, Journal
from vllmd.scheduler.leases import Lease, LeaseBook
from vllmd.scheduler.placement import Placement
from vllmd.scheduler.wish import Wish
from vllmd.worker.processes import reap_strangers
from vllmd.worker.protocol import Prompt

TICK_SECONDS = 1.0
MOST_LEASES = 10_000
"""Nobody has so many clients; somebody forgets to release them."""


class Scheduler:
    """All engines of this host and the claims on them.

    Args:
        ground: what the engines share.
        quarantines: GPUs on which nothing is placed.
        journal: where what a later daemon has to know is written down; `None` for nowhere.
    """

    def __init__(self, ground: Ground, quarantines: Quarantines, *, journal: pathlib.Path | None = None) -> None:
        self.draining = False
        self.upgrading = False
        self.leases = LeaseBook()
        self.journal = Journal(journal, self._contents)
        self.engines = Placement(ground, quarantines, self._wanted, self.leases.drop_engine, self.journal)
        self._ground = ground
        self.admission = Admission(ground.backend, ground.live)

    def _contents(self) -> Contents:
        return adoption.contents(self.engines.alive(), self.leases, left_well=self.upgrading)

    def adopt(self, earlier: Contents) -> frozenset[str]:
        """Go on with an earlier daemon's engines that live, or that somebody has a lease on; returns their ids.

        Those that nobody has a lease on stay for a while as well: whoever waited for them will ask again.
        """
        adopted = adoption.take_over(earlier, self.engines, self.leases, self._ground)
        for entry in (entry for entry in adopted if not self.leases.count(entry.supervisor.id)):
            entry.waiting += 1
            asyncio.get_running_loop().call_later(adoption.SHORTEST_SECONDS, self._leave, entry)
        return frozenset(entry.supervisor.id for entry in adopted)

    def _leave(self, entry: Entry) -> None:
        entry.waiting -= 1
        self._settle(entry)

    def owners(self) -> dict[int, str]:
        """Map the process ids of living engines to the engines' ids."""
        return owners(self.engines.alive())

    def living(self) -> frozenset[str]:
        """Name the engines that this scheduler answers for: those that have not ended, or are not proven to have."""
        return frozenset(entry.supervisor.id for entry in self.engines.alive()) | self.engines.unproven.ids

    @contextlib.contextmanager
    def loading(self, wish: Wish) -> Iterator[Entry]:
        """Wait for the engine that *wish* asks for; leaving ends a start that nobody else waits for.

        Raises:
            InvalidRequest: the wish can't be granted as it is.
            Unavailable: the daemon is draining.
        """
        self.refuse_if_leaving()
        self.admission.check(wish)
        entry = self.engines.sharing(wish) or self.engines.add(wish)
        entry.waiting += 1
        self._settle(entry)
        try:
            yield entry
        finally:
            self._leave(entry)

    def refuse_if_upgrading(self) -> None:
        """Raise `Unavailable` if the engines go to the next code: nothing that is waited for comes in this one."""
        if self.upgrading:
            raise leaving.upgrading()

    def refuse_if_leaving(self) -> None:
        """Raise `Unavailable` if there is to be no new work, as the daemon ends or is upgraded."""
        self.refuse_if_upgrading()
        if self.draining:
            raise Unavailable("DRAINING", "The daemon is shutting down and takes no new work.", 10.0)

    async def until_ready(self, entry: Entry, timeout: float) -> bool:
        """Wait at most *timeout* seconds for news of a start; tell whether it is done.

        Raises:
            VllmdError: it has failed or was stopped, or the daemon is being upgraded.
        """
        supervisor = entry.supervisor
        if entry.loading:
            await supervisor.changes.wait(timeout)
        self.refuse_if_upgrading()
        if supervisor.state is State.READY:
            return True
        if not entry.loading:
            # The proof that its memory is back comes first: the client may try something else at once.
            await supervisor.ended()
            raise supervisor.error(to_load=True)
        return False

    def grant(self, entry: Entry, ttl: float | None, held: bool) -> Lease:
        """Give a lease on a ready engine.

        Args:
            entry: the engine.
            ttl: seconds that it lasts unused; `None` for the default.
            held: whether it lasts until it is released instead.

        Raises:
            Exhausted: there are too many leases.
            VllmdError: the engine is not ready any more.
        """
        if entry.supervisor.state is not State.READY or not entry.usable:
            raise entry.supervisor.error(to_load=True)
        if len(self.leases) >= MOST_LEASES:
            raise Exhausted(
                "TOO_MANY_LEASES", f"There are {MOST_LEASES} leases, which is the limit.", limit=MOST_LEASES
            )
        length = None if held else self._ground.rules.lease_ttl if ttl is None else ttl
        lease = self.leases.grant(secrets.token_hex(16), entry.supervisor.id, length, time.monotonic())
        entry.note(lease, "there is a new lease on engine %s")
        self.journal.touch()
        self._settle(entry)
        return lease

    def lease(self, lease_id: str) -> Lease:
        """Get a lease.

        Raises:
            NotFound: there is none of that name, or it has ended.
        """
        lease = self.leases.get(lease_id)
        if lease is None:
            message = "There is no such lease: it was released, it expired, or its engine ended."
            raise NotFound("LEASE_NOT_FOUND", message)
        return lease

    def renew(self, lease_id: str, ttl: float | None) -> Lease:
        """Extend a lease from now on; raises `NotFound` as `lease` does."""
        lease = self.lease(lease_id)
        self.leases.renew(lease, ttl, time.monotonic())
        self.journal.touch()
        return lease

    def release(self, lease_id: str) -> Entry:
        """End a lease; raises `NotFound` as `lease` does."""
        lease = self.lease(lease_id)
        self.leases.release(lease_id)
        self.journal.touch()
        entry = self.engines.get(lease.engine_id)
        entry.note(lease, "a lease on engine %s was released")
        self._settle(entry)
        return entry

    async def settled(self, entry: Entry) -> None:
        """Wait for the end of an engine that nobody keeps, unless it is to stay warm for a while."""
        if self._ground.rules.idle_timeout == 0 and not self._kept(entry):
            await entry.supervisor.ended()

    @contextlib.contextmanager
    def using(self, lease_id: str, engine_id: str) -> Iterator[Entry]:
        """Keep an engine for as long as something is asked of it, on a lease or by its name.

        Raises:
            NotFound: there is no such lease or engine.
            NotPossible: the engine is not ready, or was started by a vllmd that can't do it.
            VllmdError: the engine has ended.
        """
        self.refuse_if_leaving()
        lease = self.lease(lease_id) if lease_id else None
        entry = self.engines.get(lease.engine_id if lease is not None else engine_id)
        entry.link()  # it serves, or is not used at all
        entry.using += 1
        if lease is not None:
            self.leases.begin_use(lease)
        self._settle(entry)
        try:
            yield entry
        finally:
            entry.using -= 1
            if lease is not None:
                self.leases.end_use(lease, time.monotonic())
            self._settle(entry)

    @contextlib.contextmanager
    def generating(
        self, lease_id: str, engine_id: str, prompt: Prompt, params: dict[str, Any], **options: Unpack[GenerateOptions]
    ) -> Iterator[Stream]:
        """Run one generation; leaving aborts what is not finished. Raises as `using` and `Link.start` do."""
        with self.using(lease_id, engine_id) as entry:
            link = entry.link()
            stream = link.start(prompt, params, **options)
            try:
                yield stream
            finally:
                link.end(stream)

    def _wanted(self, entry: Entry) -> str:
        return entry.wanted(self.leases)

    def _kept(self, entry: Entry) -> bool:
        return bool(entry.using or self._wanted(entry))

    def _settle(self, entry: Entry) -> None:
        """See whether anybody keeps the engine; if not, end it: a start at once, a ready one when idle enough."""
        if entry.idle_timer is not None:
            entry.idle_timer.cancel()
            entry.idle_timer = None
        if self._kept(entry):
            return
        if entry.loading:
            entry.supervisor.stop("everybody who waited for it has gone", force=True)
        elif entry.supervisor.state is State.READY:
            later = asyncio.get_running_loop().call_later
            entry.idle_timer = later(self._ground.rules.idle_timeout, self._idle, entry)

    def rules_changed(self, before: Rules) -> None:
        """Let engines that are idle already stay as long as is now the rule; *before* is what held until now."""
        for entry in self.engines.alive():
            entry.put_off(self._ground.rules.idle_timeout - before.idle_timeout, self._idle)

    def _idle(self, entry: Entry) -> None:
        entry.idle_timer = None
        if not self._kept(entry):
            self.engines.ask_to_stop(entry, "nobody has a lease on it")

    async def stop(self, engine_id: str, force: bool, reason: str) -> Entry:
        """End an engine whoever keeps it, and wait until it is gone.

        Raises:
            NotFound: there is no such engine.
        """
        entry = self.engines.get(engine_id)
        if force:
            entry.supervisor.stop(reason, force=True)
        else:
            self.engines.ask_to_stop(entry, reason)
        await self.journal.save()  # else a daemon that comes next could start it again for the leases on it
        await entry.supervisor.ended()
        return entry

    async def drain(self, timeout: float, hurried: Callable[[], bool]) -> bool:
        """Take no new work and end every engine, as `leaving.drain` does."""
        self.draining = True
        return await leaving.drain(self.engines, timeout, hurried)

    async def hand_over(self) -> bool:
        """Leave every engine, as it is, to the code that this process executes next; tells whether that can be.

        Not if the journal can't be written, without which they would all be ended.
        """
        self.upgrading = True
        self.upgrading = await self.journal.save()
        if self.upgrading:
            leaving.hand_over(self.engines)
            await self.journal.save()
        return self.upgrading

    def tick(self) -> None:
        """Let leases expire, end what is on lost GPUs, sample and reap orphans; to be called once a second."""
        for lease in self.leases.expire(time.monotonic()):
            entry = self.engines.get(lease.engine_id)
            entry.note(lease, "a lease on engine %s has expired")
            self._settle(entry)
        self.engines.fail_lost()
        alive = self.engines.alive()
        for entry in alive:
            entry.sample()
        reap_strangers([entry.supervisor.pid for entry in alive if entry.supervisor.pid is not None])
