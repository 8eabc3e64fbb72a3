"""What was found out about each process, put together for the verdict."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping

from vllmd.engines.containment import Containment
from vllmd.engines.predecessor import is_id
from vllmd.watchdog.observe import PREFIX, Look, Observer, Seen, adopts_orphans, may_kill
from vllmd.watchdog.parents import Fate
from vllmd.watchdog.sockets import Connection, Sockets, Wires
from vllmd.watchdog.users import users
from vllmd.watchdog.verdicts import Facts, Kin, Parent, Peer, is_core_or_worker
from vllmd.worker import cgroup as cgroups
from vllmd.worker.descent import below
from vllmd.worker.processes import Identity, Stat

_API_SERVER = "VLLM::APIServer"


class Gatherer:
    """Puts together what there is to know, from one look to the next.

    Args:
        root: the directory of our engines' directories.
        containment: where our engines' cgroups are.
        fate: tells what became of the first parent of a process.
    """

    def __init__(self, root: pathlib.Path, containment: Containment, fate: Callable[[Identity], Fate | None]) -> None:
        self._root = root
        self._containment = containment
        self._fate = fate
        self._sockets = Sockets()

    def facts(self, look: Look, observer: Observer, killed: Collection[Identity] = ()) -> dict[int, Facts]:
        """Gather what is known of all processes that are to be judged; reads, and so blocks for some milliseconds.

        Args:
            look: the processes.
            observer: who looked.
            killed: processes that were sent SIGKILL and had the time to end.
        """
        groups, wires = self._groups(), self._sockets.now(look.stats)
        found = {pid: self._of(seen, look, observer, groups, wires, killed) for pid, seen in look.seen.items()}
        missing = {pid: Facts(pid=pid, found=False, host_pids=observer.host_pids) for pid in look.missing}
        return found | missing

    def _of(
        self,
        seen: Seen,
        look: Look,
        observer: Observer,
        groups: Mapping[int, str],
        wires: Wires,
        killed: Collection[Identity],
    ) -> Facts:
        stat, details = seen.stat, seen.details
        own = None if details.pid_namespace is None else details.pid_namespace == observer.own_pid_namespace
        fate = self._fate(stat.identity)
        orphaned = self._is_orphaned(seen, look, observer)
        return Facts(
            pid=stat.identity.pid,
            name=stat.name,
            ended=stat.dead,
            killed=stat.identity in killed,
            engine=groups.get(stat.identity.pid) or self._marked(details.marker),
            own_namespace=own,
            parent=_parent(stat, look, observer),
            dead_parent=Kin(fate.identity.pid, fate.name) if fate is not None and not fate.alive else None,
            # Connections cost too much to look at where the verdict does not depend on them.
            peers=self._peers(seen, look, observer, wires) if orphaned and is_core_or_worker(stat.name) else None,
            above=_above(stat, look.stats),
            reachable=may_kill(details.uid),
            owner="somebody" if details.uid is None else f"user {details.uid}",
        )

    def _groups(self) -> dict[int, str]:
        """Map the processes in cgroups of our engines to the engines' ids."""
        example = self._containment.path("x")
        if example is None:
            return {}
        ids = {path: path.name.removeprefix("engine-") for path in example.parent.glob("engine-*/")}
        return {pid: name for path, name in ids.items() if is_id(name) for pid in cgroups.pids(path)}

    def _marked(self, marker: tuple[str, str] | None) -> str:
        """Tell the engine of ours whose marker it is: ids are unique only within a daemon, directories on the host."""
        if marker is None or not is_id(marker[0]):
            return ""
        return marker[0] if pathlib.Path(marker[1]) == self._root / marker[0] else ""

    def _peers(self, seen: Seen, look: Look, observer: Observer, wires: Wires) -> tuple[Peer, ...] | None:
        if seen.details.net_namespace is None or seen.details.net_namespace != observer.own_net_namespace:
            return None  # the kernel tells only of the sockets of our own

        def left_behind(pid: int) -> Collection[int]:
            top = self._left_behind(pid, look, observer)
            return () if top is None else _alive_below(top, look)

        found = users(_alive_below(seen.stat.identity.pid, look), wires.outside, left_behind)
        return None if found is None else tuple(map(_peer, found))

    def _left_behind(self, pid: int, look: Look, observer: Observer) -> int | None:
        """Find the process of vLLM's, this one or above it, that was left behind and by itself serves nobody.

        An API server goes on serving without the launcher of all of them. Of what is in another network namespace it
        can't be told whom it serves.
        """
        for stat in _line(pid, look.stats):
            seen = look.seen.get(stat.identity.pid)
            if seen is None or not stat.name.startswith(PREFIX) or stat.name.startswith(_API_SERVER):
                continue
            if seen.details.net_namespace == observer.own_net_namespace and self._is_orphaned(seen, look, observer):
                return stat.identity.pid
        return None

    def _is_orphaned(self, seen: Seen, look: Look, observer: Observer) -> bool:
        """Tell whether the parent of a process has died, or may have: a reaper has it that can't have started it."""
        own = seen.details.pid_namespace
        if own is None or own != observer.own_pid_namespace:
            return False
        fate = self._fate(seen.stat.identity)
        parent = _parent(seen.stat, look, observer)
        adopted = parent is not None and parent.reaper and not parent.same_session
        return adopted or (fate is not None and not fate.alive)


def _alive_below(pid: int, look: Look) -> list[int]:
    return [stat.identity.pid for stat in below(pid, look.stats.values()) if not stat.dead]


def _peer(connection: Connection) -> Peer:
    where = f" at {connection.host}" if connection.host else ""
    name = connection.name or f"somebody{where}"
    who = name if connection.holder is None else f"pid {connection.holder.pid} ({name})"
    return Peer(who=who, zmq=connection.zmq, tcp=bool(connection.host))


def _parent(stat: Stat, look: Look, observer: Observer) -> Parent | None:
    parent = look.stats.get(stat.parent_pid)
    if parent is None or parent.dead:
        return None
    return Parent(
        kin=Kin(parent.identity.pid, parent.name),
        reaper=adopts_orphans(parent, observer.own_pid_namespace),
        same_session=parent.session == stat.session,
    )


def _above(stat: Stat, stats: Mapping[int, Stat]) -> int | None:
    """Find the nearest process above one that is called like a core or a worker."""
    line = _line(stat.parent_pid, stats)
    above = (one.identity.pid for one in line if is_core_or_worker(one.name) and not one.dead)
    return next((pid for pid in above if pid != stat.identity.pid), None)


def _line(pid: int, stats: Mapping[int, Stat]) -> Iterator[Stat]:
    """Go from a process up to the first; two looks may not fit together, so no process comes twice."""
    passed = set[int]()
    while pid in stats and pid not in passed:
        yield stats[pid]
        passed.add(pid)
        pid = stats[pid].parent_pid
