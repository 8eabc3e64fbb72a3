"""What goes from one daemon to the next: engines that live on, and the leases on them."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterable, Iterator

from vllmd.engines import predecessor
from vllmd.engines.predecessor import Survivor
from vllmd.engines.state import State
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.journal import Contents, EngineRecord, LeaseRecord
from vllmd.scheduler.leases import Lease, LeaseBook
from vllmd.scheduler.placement import Placement
from vllmd.worker.processes import boot_id

SHORTEST_SECONDS = 60.0
"""What a client gets to come back, also if its lease was about to end, or was held by a stream that is broken now."""


def contents(entries: Iterable[Entry], leases: Iterable[Lease]) -> Contents:
    """Write down the engines that a later daemon is to go on with, and the leases; times become those of the epoch.

    One that is on its way out is not among them, so that the end which somebody asked for comes.
    """
    to_epoch = time.time() - time.monotonic()
    return Contents(
        boot_id=boot_id(),
        engines=[_record(entry) for entry in entries if not _leaves(entry)],
        leases=[
            LeaseRecord(
                id=lease.id,
                engine_id=lease.engine_id,
                ttl=lease.ttl,
                expires=None if lease.expires is None else lease.expires + to_epoch,
            )
            for lease in leases
        ],
    )


def _leaves(entry: Entry) -> bool:
    return entry.supervisor.state.ending or entry.stop_reason is not None


def _record(entry: Entry) -> EngineRecord:
    supervisor, wish = entry.supervisor, entry.wish
    return EngineRecord(
        id=supervisor.id,
        model=wish.model,
        revision=wish.revision,
        engine_args=dict(wish.engine_args),
        auto_config=wish.auto_config,
        plan=supervisor.plan,
        created=supervisor.created,
        spawned=supervisor.spawned,
        ready=supervisor.ready,
        restarted=list(supervisor.restarted),
    )


def survivors(earlier: Contents, root: pathlib.Path) -> Iterator[tuple[EngineRecord, Survivor]]:
    """Take over the directories of those engines of the journal that still live."""
    for record in earlier.engines:
        if record.plan is None or not (root / record.id).is_dir():
            continue
        survivor = predecessor.survivor(root / record.id)
        if survivor is not None:
            yield record, survivor


async def linked_up(engines: Placement, engine_ids: Iterable[str], timeout: float) -> None:
    """Wait until adopted engines that had served serve again, at most *timeout* seconds."""
    deadline = time.monotonic() + timeout
    supervisors = [engines.get(engine_id).supervisor for engine_id in engine_ids]
    while any(one.ready is not None and one.state is State.STARTING for one in supervisors):
        left = deadline - time.monotonic()
        if left <= 0 or not await engines.changed.wait(left):
            return


def restore(earlier: Contents, engine_ids: frozenset[str], book: LeaseBook) -> None:
    """Give the leases on these engines again, by the names that their clients know."""
    now, to_monotonic = time.monotonic(), time.monotonic() - time.time()
    for record in earlier.leases:
        if record.engine_id in engine_ids:
            ttl = SHORTEST_SECONDS if record.ttl is None else record.ttl
            lease = book.grant(record.id, record.engine_id, ttl, now)
            left = (record.expires + to_monotonic) if record.expires is not None else now
            lease.expires = max(left, now + min(ttl, SHORTEST_SECONDS))
