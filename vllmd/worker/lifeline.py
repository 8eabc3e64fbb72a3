"""The end of a tree whose daemon has died.

The daemon holds a `flock` on `owner.lock` for as long as it answers for the engine; the kernel drops it at
the daemon's death, however that came. A thread of the worker looks every now and then; once nobody has held
the lock for the adoption timeout, it ends the whole tree, removes what is left, and exits. It is started
before vllm is imported, so it works in every phase, loading included.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import sys
import threading
import time

from . import cgroup as cgroups
from . import leftovers
from .processes import Identity
from .spec import OWNER_LOCK, Spec
from .tree import Tree

_LOOK_SECONDS = 1.0
_KILL_SECONDS = 10.0
EXIT_STATUS = 70
"""Of a worker that ended because nobody owned it (`EX_SOFTWARE` of sysexits.h)."""


class Ownership:
    """Tells for how long nobody has answered for the engine."""

    def __init__(self, lock: pathlib.Path) -> None:
        self._lock = lock
        self._fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
        self._free_since: float | None = None

    def unowned_seconds(self, now: float) -> float:
        """Seconds since the lock was first seen free; infinite if the engine's directory was taken away."""
        if not self._lock.exists():
            return float("inf")
        if self.held():
            self._free_since = None
            return 0.0
        if self._free_since is None:
            self._free_since = now
        return now - self._free_since

    def held(self) -> bool:
        """Tell whether somebody answers for the engine right now."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False


class Lifeline:
    """Ends this process's tree once nobody has owned it for the adoption timeout.

    Args:
        spec: the engine.
        directory: its own.
        leader: this process.
    """

    def __init__(self, spec: Spec, directory: pathlib.Path, leader: Identity) -> None:
        self._spec = spec
        self._directory = directory
        self._leader = leader
        self._ownership = Ownership(directory / OWNER_LOCK)
        self._ending = threading.Lock()

    def start(self) -> None:
        """Begin to watch, on a thread of its own: this works in every phase, whatever the main thread does."""
        threading.Thread(target=self._watch, name="vllmd-lifeline", daemon=True).start()

    def leave(self) -> None:
        """Let the main thread end the process: without an owner, the clean-up is left to nobody else.

        While the tree is being ended, the main thread sees the engine die and wants to exit; it is held here, or
        the clean-up would die with the process.
        """
        self._ending.acquire()
        if not self._ownership.held():
            end_own_tree(self._spec, self._directory, self._leader)

    def _watch(self) -> None:
        interval = min(_LOOK_SECONDS, self._spec.adoption_timeout / 4)
        while self._ownership.unowned_seconds(time.monotonic()) < self._spec.adoption_timeout:
            time.sleep(interval)
        self._ending.acquire()
        end_own_tree(self._spec, self._directory, self._leader)


def end_own_tree(spec: Spec, directory: pathlib.Path, leader: Identity) -> None:
    """End every process of this tree, this one last, and remove what they leave; does not return."""
    print("vllmd: nobody owns this engine any more; it ends itself", file=sys.stderr, flush=True)
    cgroup = pathlib.Path(spec.cgroup) if spec.cgroup else None
    try:
        # Out of the cgroup first: killing everybody in it would end this process before the clean-up.
        if cgroup is not None and not cgroups.leave(cgroup):
            print(f"vllmd: {cgroup} can't be left, so its processes are killed one by one", file=sys.stderr, flush=True)
            cgroup = None
        Tree(spec.engine_id, leader, cgroup, directory).kill(_KILL_SECONDS)
        leftovers.remove_shared_memory(spec.engine_id)
        if cgroup is not None:
            cgroups.remove(cgroup)
            cgroups.remove(cgroup.parent)
        leftovers.remove_directory(directory)
    finally:
        os._exit(EXIT_STATUS)
