"""The processes of one engine: who belongs to it, and how all of them are ended.

What ties a process to an engine, any of which is enough:

* it is in the engine's cgroup (nothing leaves a cgroup by forking or `setsid`);
* it is in the worker's session, which vLLM never leaves;
* it carries our marker in its environment, the engine's id and its directory, and is this user's. Anybody can
  set variables, so who is another user's is never taken for ours by them.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import select
import signal
import time
from collections.abc import Iterable

from . import cgroup
from .processes import Identity, Stat, hold, marker, processes, read_stat, send

_LAST_SECONDS = 1.0
"""What the last ones get to end after SIGKILL, when finding them has taken all the time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Killed:
    """What became of a tree."""

    pids: tuple[int, ...]
    """All that were found alive."""
    survivors: tuple[int, ...]
    """Those that SIGKILL did not end in time: stuck in the kernel, mostly in the driver."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    """The process tree of one engine."""

    engine_id: str
    leader: Identity | None
    """The worker, which leads a session of its own; `None` if it was never seen."""
    cgroup: pathlib.Path | None
    directory: pathlib.Path | None = None
    """The engine's own, which the marker has to name; `None` for any: ids are unique only within a daemon."""

    def members(self) -> list[Stat]:
        """List the living processes of the tree, never this process itself."""
        inside = set(cgroup.pids(self.cgroup)) if self.cgroup is not None else frozenset[int]()
        own = os.getpid()
        return [
            stat
            for stat in processes()
            if not stat.dead
            and stat.identity.pid != own
            and (stat.identity.pid in inside or self._in_session(stat) or self._marked(stat))
        ]

    def _marked(self, stat: Stat) -> bool:
        found = marker(stat.identity.pid)
        return found is not None and found[0] == self.engine_id and self.directory in (None, pathlib.Path(found[1]))

    def _in_session(self, stat: Stat) -> bool:
        """Tell whether the process is in the worker's session.

        The kernel keeps a session's number from being used again while anybody is in it, but once all of
        ours are gone a stranger may get it: after the worker's death only the marker counts.
        """
        if self.leader is None or stat.session != self.leader.pid:
            return False
        leader = read_stat(self.leader.pid)
        return leader is not None and leader.identity == self.leader

    def kill(self, timeout: float, known: Iterable[Identity] = ()) -> Killed:
        """SIGKILL the whole tree and wait for its end, at most *timeout* seconds; blocks.

        Members are stopped first, until a look finds no new one, so that none can fork away meanwhile; a tree
        that forks faster than that is killed as it is found.

        Args:
            timeout: seconds.
            known: processes that were seen in the tree before. One that is dying already has lost all that it could
                be recognized by, while its memory is still being freed.
        """
        deadline = time.monotonic() + timeout
        patience = time.monotonic() + timeout / 4
        held: dict[Identity, int] = {}
        try:
            fresh = self._hold_new(held, self._known(known), signal.SIGSTOP)
            fresh = self._hold_new(held, self.members(), signal.SIGSTOP) or fresh
            if self.cgroup is not None:
                cgroup.kill(self.cgroup)
            while fresh and time.monotonic() < deadline:
                signum = signal.SIGSTOP if time.monotonic() < patience else signal.SIGKILL
                fresh = self._hold_new(held, self.members(), signum)
            for fd in held.values():
                send(fd, signal.SIGKILL)
            last = max(deadline, time.monotonic() + _LAST_SECONDS)
            alive = _wait_all(held, last)
            if self.cgroup is not None:
                cgroup.await_empty(self.cgroup, last)  # some may have come and been killed without ever being held
        finally:
            for fd in held.values():
                os.close(fd)
        return Killed(tuple(sorted(i.pid for i in held)), tuple(sorted(i.pid for i in alive)))

    def _known(self, known: Iterable[Identity]) -> list[Stat]:
        stats = ((identity, read_stat(identity.pid)) for identity in known)
        return [
            stat
            for identity, stat in stats
            if stat is not None and stat.identity == identity and not stat.dead and identity.pid != os.getpid()
        ]

    def _hold_new(self, held: dict[Identity, int], members: Iterable[Stat], signum: signal.Signals) -> bool:
        """Hold and signal those that are not held yet; tell whether there were any."""
        found = False
        for stat in members:
            if stat.identity in held:
                continue
            fd = hold(stat.identity)
            if fd is not None:
                held[stat.identity] = fd
                found = send(fd, signum) or found
        return found


def _wait_all(held: dict[Identity, int], deadline: float) -> list[Identity]:
    """Wait until all held processes have ended; list those that have not by the deadline."""
    waiting = dict(held)
    while waiting:
        poller = select.poll()
        for fd in waiting.values():
            poller.register(fd, select.POLLIN)
        ended = {fd for fd, _ in poller.poll(max(0.0, deadline - time.monotonic()) * 1000)}
        if not ended:
            break
        waiting = {identity: fd for identity, fd in waiting.items() if fd not in ended}
    return list(waiting)
