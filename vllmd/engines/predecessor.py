"""Engines of a daemon that died: those that live are taken over, what is left of others goes.

All that happens before this daemon calls itself ready. What can't be taken over is ended in the same way as any other
engine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Collection

from vllmd.engines import logs, reclaim, starting
from vllmd.engines.containment import Containment, is_an_engines
from vllmd.engines.directory import Owned, own
from vllmd.events import Events, Kind
from vllmd.gpu.ledger import Expectation
from vllmd.gpu.monitor import GpuMonitor
from vllmd.worker.processes import Identity, boot_id, read_stat
from vllmd.worker.spec import LINK, LOG, OWNER_LOCK, PROGRESS, SITE, SPEC, TMP, Spec, read_progress, read_spec
from vllmd.worker.tree import Tree

_log = logging.getLogger(__name__)
_ID = re.compile(r"[a-z0-9-]{1,24}")
_NAMES = frozenset({LINK, LOG, OWNER_LOCK, PROGRESS, SITE, SPEC, TMP})


@dataclasses.dataclass(frozen=True, slots=True)
class Survivor:
    """An engine that outlived its daemon, and which this one now answers for."""

    owned: Owned
    tree: Tree
    spec: Spec

    def disown(self) -> None:
        """Answer for it no more."""
        self.owned.disown()


@dataclasses.dataclass(frozen=True, slots=True)
class Remnant:
    """What may be left of an engine that did not outlive its daemon, and which this one answers for."""

    owned: Owned | None
    """`None` if it has no directory any more."""
    remains: reclaim.Remains

    def lines(self, count: int) -> list[str]:
        """Read the last lines of its log; none if that is gone."""
        return logs.tail(self.remains.directory / LOG, count)

    def errors(self) -> tuple[str, ...]:
        """Read what its worker said of a start that failed."""
        return starting.reported_errors(self.remains.directory)

    def disown(self) -> None:
        """Answer for it no more."""
        if self.owned is not None:
            self.owned.disown()


def survivor(directory: pathlib.Path, *, left_well: bool = False) -> Survivor | None:
    """Take an engine's directory over if its worker still runs; `None` if there is none, or it has another owner.

    So it is if the tree is half ended: who asked for its end may be unknown by now, but that it was begun is seen.

    Args:
        directory: the engine's.
        left_well: whether its daemon left it on purpose: then whoever is stopped was stopped by somebody else.
    """
    owned = _own(directory)
    if owned is None:
        return None
    spec = _spec(directory)
    tree = _tree(directory, spec)
    if spec is None or not _runs(tree.leader) or (half_ended(tree) and not left_well):
        owned.disown()
        return None
    return Survivor(owned, tree, spec)


def remnant(directory: pathlib.Path, containment: Containment) -> Remnant | None:
    """Take over what may be left of an engine whose worker does not run; `None` if somebody else's is in its place."""
    owned = _own(directory)
    if owned is not None:
        return Remnant(owned, _remains(directory, containment))
    return None if os.path.lexists(directory) else Remnant(None, _without_directory(directory, containment))


def half_ended(tree: Tree) -> bool:
    """Tell whether somebody of a tree is stopped: its daemon died between that and the kill, or before it was written.

    Nothing else stops an engine's processes for long. Who is held by a debugger is in another state.
    """
    return any(stat.state == "T" for stat in tree.members())


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """An engine that a dead daemon had left and that was ended, as far as that could be proven."""

    remains: reclaim.Remains
    report: reclaim.Report


async def reclaim_all(
    root: pathlib.Path,
    containment: Containment,
    monitor: GpuMonitor,
    timeout: float,
    events: Events,
    adopted: Collection[str] = (),
) -> list[Ended]:
    """End every engine whose directory is in *root* and has no owner, all at once, and tell of each.

    Those *adopted*, by their ids, are left alone, as is any that belongs to another daemon, and what holds anything
    that no engine's directory does. A cgroup without a directory is one that a daemon had just made when it died.
    """
    left = sorted(path for path in root.iterdir() if path.name not in adopted)
    owned = {path: mine for path in left if (mine := _own(path)) is not None}
    remains = [_remains(path, containment) for path in owned]
    for engine_id in containment.engine_ids():
        if engine_id not in adopted and not (root / engine_id).exists():
            remains += [_without_directory(root / engine_id, containment)]
    ended = await asyncio.gather(*(_end(one, monitor, timeout, events) for one in remains))
    for mine in owned.values():
        mine.disown()
    return ended


async def _end(remains: reclaim.Remains, monitor: GpuMonitor, timeout: float, events: Events) -> Ended:
    reasons = (_why_not_adopted(remains.tree),)
    report = await reclaim.reclaim(remains, monitor, timeout)
    engine_id, gpus = remains.tree.engine_id, [expected.uuid for expected in remains.expected]
    if report.killed:
        message = f"An engine that a daemon has left is killed: {report.killed} of its processes."
        events.record(
            Kind.KILL, message, reasons=reasons, engine=engine_id, gpus=gpus, pids=report.pids, killed=report.killed
        )
    events.record(Kind.RECLAIM, report.summary, reasons=reasons, engine=engine_id, gpus=gpus, pids=report.pids)
    return Ended(remains, report)


def _why_not_adopted(tree: Tree) -> str:
    """Say why an engine is ended that a daemon has left."""
    if not _runs(tree.leader):
        why = "so is its worker"
    elif half_ended(tree):
        why = "it had begun to end it"
    else:
        why = "no journal says that it is to go on"
    return f"its daemon is gone, and {why}"


def _runs(leader: Identity | None) -> bool:
    stat = read_stat(leader.pid) if leader is not None else None
    return stat is not None and stat.identity == leader and not stat.dead


def _own(directory: pathlib.Path) -> Owned | None:
    if not _is_an_engines(directory):
        return None
    try:
        return own(directory)
    except BlockingIOError:
        _log.warning("engine %s belongs to another daemon that is still alive", directory.name)
    except FileNotFoundError:
        pass  # its tree has just ended itself
    except OSError as error:
        _log.error("engine %s can't be taken over: %s", directory.name, error)
    return None


def is_id(name: str) -> bool:
    """Tell whether this can be the id of an engine: it becomes the name of directories and cgroups."""
    return _ID.fullmatch(name) is not None


def _is_an_engines(path: pathlib.Path) -> bool:
    """Tell whether a directory is one that a daemon of this user has made for an engine, and nothing else.

    An empty one is: a daemon may die right after it has made it.
    """
    try:
        if path.is_symlink() or not path.is_dir() or not is_id(path.name) or path.stat().st_uid != os.geteuid():
            return False
        return _NAMES.issuperset(os.listdir(path))
    except FileNotFoundError:  # another daemon of this directory's user has just removed it
        return False


def _remains(directory: pathlib.Path, containment: Containment) -> reclaim.Remains:
    """Work out what there can be of an engine, from what it and its daemon wrote down."""
    spec = _spec(directory)
    tree = _tree(directory, spec)
    if spec is None:  # its cgroup was made before it could be written down
        tree = dataclasses.replace(tree, cgroup=containment.path(directory.name))
    held = spec.gpus if spec is not None and spec.boot_id == boot_id() else ()
    expected = tuple(Expectation(one.uuid, one.floor_bytes) for one in held)
    return reclaim.Remains(tree, directory, expected=expected)


def _without_directory(directory: pathlib.Path, containment: Containment) -> reclaim.Remains:
    return reclaim.Remains(Tree(directory.name, None, containment.path(directory.name), directory), directory)


def _tree(directory: pathlib.Path, spec: Spec | None) -> Tree:
    cgroup = pathlib.Path(spec.cgroup) if spec is not None and spec.cgroup else None
    if cgroup is not None and not is_an_engines(cgroup, directory.name):
        _log.error("engine %s names a cgroup that can't be its own: %s", directory.name, cgroup)
        cgroup = None
    leader: Identity | None = None
    if spec is not None and spec.boot_id == boot_id():
        started = [event for event in read_progress(directory) if event.event == "started"]
        leader = Identity(started[0].pid, started[0].start_ticks) if started else None
    return Tree(directory.name, leader, cgroup, directory)


def _spec(directory: pathlib.Path) -> Spec | None:
    try:
        return read_spec(directory)
    except (OSError, ValueError, RecursionError) as error:
        # The daemon died while it wrote this. The marker in the environment still finds any process.
        _log.warning("engine %s has no readable spec: %s", directory.name, error)
        return None
