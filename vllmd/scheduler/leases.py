"""Leases: what keeps an engine loaded, and when each of them ends. Pure: the time comes in from outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(slots=True)
class Lease:
    """A client's claim on an engine."""

    id: str
    """A secret of the client that got it."""
    engine_id: str
    ttl: float | None
    """Seconds that it lasts unused; `None` for one that is held by a stream."""
    expires: float | None
    """When it ends if nothing happens, on the clock of *now*; `None` for one that is held."""
    running: int = 0
    """Generations that use it now; while there are any it does not expire."""


class LeaseBook:
    """All leases."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._of_engine: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def grant(self, lease_id: str, engine_id: str, ttl: float | None, now: float) -> Lease:
        """Write down a new lease; with no *ttl* it lasts until it is released."""
        lease = Lease(lease_id, engine_id, ttl, None if ttl is None else now + ttl)
        self._leases[lease_id] = lease
        self._of_engine.setdefault(engine_id, set()).add(lease_id)
        return lease

    def get(self, lease_id: str) -> Lease | None:
        """Look a lease up."""
        return self._leases.get(lease_id)

    def release(self, lease_id: str) -> Lease | None:
        """End a lease; returns it if there was one."""
        lease = self._leases.pop(lease_id, None)
        if lease is not None:
            kept = self._of_engine[lease.engine_id]
            kept.discard(lease_id)
            if not kept:
                del self._of_engine[lease.engine_id]
        return lease

    def renew(self, lease: Lease, ttl: float | None, now: float) -> None:
        """Let a lease last from now on, for *ttl* if given; one that is held is left as it is."""
        if lease.ttl is not None:
            lease.ttl = lease.ttl if ttl is None else ttl
            lease.expires = now + lease.ttl

    def begin_use(self, lease: Lease) -> None:
        """A generation begins."""
        lease.running += 1

    def end_use(self, lease: Lease, now: float) -> None:
        """A generation ends: the lease lasts its length from here."""
        lease.running -= 1
        self.renew(lease, None, now)

    def count(self, engine_id: str) -> int:
        """Count an engine's leases."""
        return len(self._of_engine.get(engine_id, ()))

    def expire(self, now: float) -> list[Lease]:
        """End the leases whose time is over; returns them."""
        over = [
            lease
            for lease in self._leases.values()
            if lease.expires is not None and not lease.running and lease.expires <= now
        ]
        for lease in over:
            self.release(lease.id)
        return over

    def drop_engine(self, engine_id: str) -> None:
        """End all leases on an engine that is gone."""
        for lease_id in list(self._of_engine.get(engine_id, ())):
            self.release(lease_id)
