"""What goes from one daemon to the next: engines that live on or are to be started again, and the leases on them."""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable, Iterable

from vllmd.engines import diagnosis, predecessor
from vllmd.engines.diagnosis import Failure
from vllmd.engines.ground import Ground
from vllmd.engines.predecessor import Remnant, Survivor
from vllmd.engines.state import State
from vllmd.engines.supervisor import Supervisor
from vllmd.events import Kind
from vllmd.gpu.ledger import Expectation
from vllmd.scheduler.entry import Entry
from vllmd.scheduler.journal import Contents, EngineRecord, LeaseRecord, RestartRecord
from vllmd.scheduler.leases import Lease, LeaseBook
from vllmd.scheduler.placement import Placement
from vllmd.worker.processes import boot_id

SHORTEST_SECONDS = 60.0
"""What a client gets to come back, also if its lease was about to end, or was held by a stream that is broken now."""


def contents(entries: Iterable[Entry], leases: Iterable[Lease], *, left_well: bool = False) -> Contents:
    """Write down the engines that a later daemon is to go on with, and the leases; times become those of the epoch.

    One that is on its way out is not among them, so that the end which somebody asked for comes.
    """
    to_epoch = time.time() - time.monotonic()
    return Contents(
        boot_id=boot_id(),
        left_well=left_well,
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
    supervisor = entry.supervisor
    return entry.stop_reason is not None or (supervisor.state.ending and not supervisor.restarting)


def _record(entry: Entry) -> EngineRecord:
    supervisor, wish = entry.supervisor, entry.wish
    return EngineRecord(
        id=supervisor.id,
        model=wish.model,
        revision=wish.revision,
        engine_args=dict(wish.engine_args),
        auto_config=wish.auto_config,
        use_case=wish.use_case,
        lora=dict(wish.lora),
        plan=supervisor.plan,
        created=supervisor.created,
        spawned=supervisor.spawned,
        ready=supervisor.ready,
        restarted=list(supervisor.restarted),
        restart=_restart(supervisor),
    )


def _restart(supervisor: Supervisor) -> RestartRecord | None:
    restart, failure = supervisor.restart, supervisor.failure
    if restart is None or failure is None:
        return None
    return RestartRecord(
        due=supervisor.next_start or time.time() + restart.delay_seconds,
        failure=failure,
        reclaimed=supervisor.state is State.BACKOFF,
        counts=restart.counts,
    )


class Fate(enum.Enum):
    """What becomes of an engine of an earlier daemon."""

    ADOPT = enum.auto()
    """Its processes are taken over."""
    RECOVER = enum.auto()
    """It does not run, and is gone on with as with one that has failed."""
    LEAVE = enum.auto()
    """What may be left of it is ended, as that of any engine that nobody answers for."""


def fate(record: EngineRecord, *, lives: bool, leased: bool) -> tuple[Fate, str]:
    """Decide what becomes of an engine of the journal, and why.

    Args:
        record: the engine.
        lives: whether its worker runs.
        leased: whether somebody has a lease on it.
    """
    if record.plan is None:
        return Fate.LEAVE, "it was not to be started yet"
    failed = record.restart is not None and not record.restart.reclaimed
    if lives and not failed:
        return Fate.ADOPT, "its daemon is gone, and its worker lives"
    if not leased and failed:
        return Fate.LEAVE, "it has failed, and nobody has a lease on it"
    if not leased:
        # One that has never served is among these: who waited for it went with the daemon that it was asked of, and
        # starts it anew by asking again. A lease there is only on one that has served.
        return Fate.LEAVE, "it does not run, and nobody has a lease on it"
    return Fate.RECOVER, f"it {'has failed' if failed else 'does not run'}, and somebody has a lease on it"


def lasts(lease: LeaseRecord, now: float) -> bool:
    """Tell whether the client of a lease may still count on it, so that its engine is worth another start."""
    return lease.expires is None or lease.expires > now - SHORTEST_SECONDS


def begun(record: EngineRecord, now: float) -> EngineRecord:
    """Count the restart that an engine was waiting for: its daemon died just after it had made it."""
    assert record.restart is not None
    counted = [now] if record.restart.counts else []
    restarted = [*record.restarted, *counted]
    return dataclasses.replace(record, restart=None, spawned=now, ready=None, restarted=restarted)


def take_over(earlier: Contents, engines: Placement, book: LeaseBook, ground: Ground) -> list[Entry]:
    """Go on with those engines of the journal that live, or that somebody has a lease on, and with these leases."""
    leased = frozenset(lease.engine_id for lease in earlier.leases if lasts(lease, time.time()))
    heirs = [
        heir
        for record in earlier.engines
        if (heir := _heir(record, record.id in leased, earlier.left_well, ground)) is not None
    ]
    # Before the engines: whether one is started again depends on whether anybody has a lease on it.
    restore(earlier, frozenset(heir.record.id for heir in heirs), book)
    return [_enter(heir, engines, ground) for heir in heirs]


@dataclasses.dataclass(frozen=True, slots=True)
class _Heir:
    record: EngineRecord
    left: Survivor | Remnant
    why: str


def _heir(record: EngineRecord, leased: bool, left_well: bool, ground: Ground) -> _Heir | None:
    """Take hold of what is left of an engine, if it is gone on with."""
    directory = ground.root / record.id
    left: Survivor | Remnant | None = predecessor.survivor(directory, left_well=left_well)
    what, why = fate(record, lives=left is not None, leased=leased)
    if left is not None and what is not Fate.ADOPT:
        left.disown()
        left = None
    if what is Fate.RECOVER:
        left = predecessor.remnant(directory, ground.containment)
        why = why if left is not None else "what is in its directory's place can't be taken over"
    if left is None:
        message = "An engine of an earlier daemon is not taken over."
        ground.events.record(Kind.ADOPTION, message, reasons=[why], engine=record.id)
        return None
    waited = record.restart is not None and record.restart.reclaimed
    anew = waited and (isinstance(left, Survivor) or left.owned is not None)
    return _Heir(begun(record, time.time()) if anew else record, left, why)


def _enter(heir: _Heir, engines: Placement, ground: Ground) -> Entry:
    record = heir.record
    entry = engines.inherit(record)
    match heir.left:
        case Survivor() as survivor:
            for held in survivor.spec.gpus:
                ground.ledger.remember(Expectation(held.uuid, held.floor_bytes))
            entry.supervisor.adopt(survivor, heir.why)
        case Remnant() as remnant:
            if record.restart is not None:
                entry.supervisor.recover(remnant, record.restart.failure, record.restart.due, heir.why)
            else:
                entry.supervisor.recover(remnant, _failure(record, remnant), None, heir.why)
    return entry


def _failure(record: EngineRecord, remnant: Remnant) -> Failure:
    """Find out why an engine does not run that no daemon saw fail."""
    lines = remnant.lines(diagnosis.READ_LINES)
    # The journal may not say yet why it was being ended. Had somebody asked for that, they had no answer and will ask
    # again, while the clients of its leases can't do anything about it.
    half = predecessor.half_ended(remnant.remains.tree)
    how = "was stopped, as if its daemon had died while it ended it," if half else "ended with its daemon, or after it"
    if record.ready is None:
        return diagnosis.load_failure(lines, remnant.errors(), f"{how},")
    return diagnosis.death(lines, f"its worker {how}")


async def linked_up(engines: Placement, engine_ids: Iterable[str], timeout: float) -> None:
    """Wait until adopted engines that had served serve again, at most *timeout* seconds."""
    await _until_none(engines, engine_ids, lambda one: one.ready is not None and one.state is State.STARTING, timeout)


async def reclaimed(engines: Placement, engine_ids: Iterable[str], timeout: float) -> None:
    """Wait until what was left of engines that did not run is gone, at most *timeout* seconds; they are killed first.

    After that they are RECLAIMING while this daemon serves, and nothing is started on their GPUs.
    """
    await _until_none(engines, engine_ids, lambda one: one.state is State.RECLAIMING, timeout)


async def _until_none(
    engines: Placement, engine_ids: Iterable[str], is_pending: Callable[[Supervisor], bool], timeout: float
) -> None:
    deadline = time.monotonic() + timeout
    supervisors = [engines.get(engine_id).supervisor for engine_id in engine_ids]
    while any(is_pending(one) for one in supervisors):
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
