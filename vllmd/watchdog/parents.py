"""The parents of vLLM's processes, each held by a pidfd: that one was alive and then died is seen, not inferred.

A process whose parent dies is adopted, and from then on nothing tells who had started it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import select
from collections.abc import Callable, Collection

from vllmd.worker.processes import Identity, Stat, hold, read_stat


@dataclasses.dataclass(frozen=True, slots=True)
class Fate:
    """The first parent that a process was seen with."""

    identity: Identity
    name: str
    alive: bool


@dataclasses.dataclass(slots=True)
class _Watched:
    identity: Identity
    name: str
    fd: int | None
    """`None` once it is dead."""


class Parents:
    """Watches parents; has to be made and used in a running event loop.

    Args:
        died: called when one has died.
    """

    def __init__(self, died: Callable[[], None]) -> None:
        self._died = died
        self._loop = asyncio.get_running_loop()
        self._watched: dict[Identity, _Watched] = {}
        """By child."""

    def watch(self, children: Collection[Stat]) -> None:
        """Watch the parents of exactly these processes from now on; what is known of others is forgotten."""
        present = {child.identity for child in children}
        for gone in self._watched.keys() - present:
            self._let_go(self._watched.pop(gone))
        for child in children:
            if child.identity not in self._watched and child.parent_pid > 1:
                self._begin(child)

    def fate(self, child: Identity) -> Fate | None:
        """Tell what became of the parent that a process was first seen with; `None` if none was ever held.

        May be called from any thread.
        """
        watched = self._watched.get(child)
        return None if watched is None else Fate(watched.identity, watched.name, not _ended(watched.fd))

    def close(self) -> None:
        """Let go of all."""
        for watched in self._watched.values():
            self._let_go(watched)
        self._watched.clear()

    def _begin(self, child: Stat) -> None:
        parent = read_stat(child.parent_pid)
        if parent is None or parent.dead:
            return
        fd = hold(parent.identity)
        if fd is None:
            return
        # Who is held now was alive; it was this child's parent only if it still is, or else has died since.
        now = read_stat(child.identity.pid)
        if now is None or now.identity != child.identity or now.parent_pid != parent.identity.pid:
            os.close(fd)
            return
        self._watched[child.identity] = _Watched(parent.identity, parent.name, fd)
        self._loop.add_reader(fd, self._ended, child.identity)

    def _ended(self, child: Identity) -> None:
        self._let_go(self._watched[child])
        self._died()

    def _let_go(self, watched: _Watched) -> None:
        fd, watched.fd = watched.fd, None
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)


def _ended(fd: int | None) -> bool:
    """Tell whether the process of a pidfd has ended: the loop may not have come round to saying so."""
    if fd is None:
        return True
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
