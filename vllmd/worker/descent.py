"""A process and all below it, and their end: for trees that carry no marker of ours and share no cgroup or session.

Descent shows only while everybody lives: who loses its parent is somebody else's child. So a tree is stopped before it
is listed to the end, and nobody in it is killed before all of it is held. And as it is nobody's that we know, whoever
asks for its end is asked once more, while it is stopped and can't become anything else.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from .processes import Identity, Stat, hold, processes, read_stat, send
from .tree import Killed

_STOP_SECONDS = 1.0
"""What a tree gets to stop: it takes microseconds, except for who is in the kernel and can't be interrupted."""

_LOOK_SECONDS = 0.002
_SPARED = Killed((), ())

Stopping = Callable[[Sequence[Stat]], None]
"""Who is told of processes that are to be stopped."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Held:
    """A process of the tree, and what it was when it was found."""

    stat: Stat
    fd: int

    @property
    def now(self) -> Stat | None:
        """What it is now; `None` if it has ended, or has become somebody else."""
        stat = read_stat(self.stat.identity.pid)
        same = stat is not None and stat.identity == self.stat.identity and stat.name == self.stat.name
        return stat if same and stat is not None and not stat.dead else None


def below(root: int, stats: Iterable[Stat]) -> list[Stat]:
    """Pick a process and all below it out of all processes, parents before their children."""
    children = collections.defaultdict(list)
    found = []
    for stat in stats:
        children[stat.parent_pid].append(stat)
        if stat.identity.pid == root:
            found.append(stat)
    for stat in found:  # grows meanwhile; popped, as pids that changed hands between two looks may make a circle
        found += children.pop(stat.identity.pid, [])
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Descent:
    """A tree by descent."""

    root: Stat
    """The uppermost process, as it was when it was judged."""

    def members(self) -> list[Stat]:
        """List the living processes of the tree; none if the root is not who it was, or the tree is our own."""
        found = [stat for stat in below(self.root.identity.pid, processes()) if not stat.dead]
        if not found or not self._is_root(found[0]) or any(stat.identity.pid in (1, os.getpid()) for stat in found):
            return []
        return found

    def _is_root(self, stat: Stat) -> bool:
        root = self.root
        return (stat.identity, stat.name, stat.parent_pid) == (root.identity, root.name, root.parent_pid)

    def kill(self, timeout: float, confirm: Callable[[], bool], stopping: Stopping = lambda stats: None) -> Killed:
        """SIGKILL the whole tree and wait for its end, at most *timeout* seconds; blocks.

        Args:
            timeout: seconds.
            confirm: asked when all of the tree is stopped. If it says no, the tree goes on as if nothing had been.
            stopping: told who is to be stopped, right before that.

        Returns:
            Who was killed: nobody if the root is not who it was, or is not confirmed, or if somebody of the tree
            may not be signalled.
        """
        deadline = time.monotonic() + timeout
        held: dict[Identity, _Held] = {}
        victims: list[_Held] = []
        try:
            if not self._stop(held, time.monotonic() + min(_STOP_SECONDS, timeout / 4), stopping) or not confirm():
                return _SPARED
            victims = [one for one in held.values() if one.now is not None and _signal(one, signal.SIGKILL)]
            alive = _await_ends(victims, deadline)
            return Killed(tuple(sorted(_pids(victims))), tuple(sorted(_pids(alive))))
        finally:
            for one in held.values():
                # Who had been stopped before stays so.
                if one not in victims and one.stat.state not in "Tt":
                    _signal(one, signal.SIGCONT)
                os.close(one.fd)

    def _stop(self, held: dict[Identity, _Held], deadline: float, stopping: Stopping) -> bool:
        """Hold and stop everybody, until a look finds nobody new and all have stopped; tell whether that worked.

        Those who do not stop in time are in the kernel, and so fork nobody.
        """
        while members := self.members():
            fresh = [stat for stat in members if stat.identity not in held]
            if fresh:
                stopping(fresh)
            for stat in fresh:
                fd = hold(stat.identity)
                if fd is None:
                    continue
                held[stat.identity] = one = _Held(stat, fd)
                if one.now is not None and not _signal(one, signal.SIGSTOP):
                    return False
            if not fresh and (all(stat.state in "Tt" for stat in members) or time.monotonic() > deadline):
                return True
            if time.monotonic() > deadline + _STOP_SECONDS:
                return False
            time.sleep(_LOOK_SECONDS)
        return False


def _signal(one: _Held, signum: signal.Signals) -> bool:
    """Signal a process; tell whether it is gone or was signalled, and not whether that ended it."""
    try:
        send(one.fd, signum)
    except PermissionError:
        return False
    return True


def _pids(held: Iterable[_Held]) -> Iterator[int]:
    return (one.stat.identity.pid for one in held)


def _await_ends(victims: list[_Held], deadline: float) -> list[_Held]:
    """Wait until all have ended; list those that have not by the deadline."""
    waiting = {one.fd: one for one in victims}
    while waiting:
        poller = select.poll()
        for fd in waiting:
            poller.register(fd, select.POLLIN)
        ended = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ended:
            break
        for fd, _ in ended:
            del waiting[fd]
    return list(waiting.values())
