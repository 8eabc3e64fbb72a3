"""Starts an engine's worker and watches its processes."""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
from collections.abc import Callable

from vllmd.engines.directory import Owned
from vllmd.worker.processes import Identity, hold, read_stat
from vllmd.worker.spec import SITE
from vllmd.worker.tree import Tree


class Watch:
    """Calls back once a process has ended, through a pidfd on the event loop."""

    def __init__(self, identity: Identity, ended: Callable[[], None]) -> None:
        self._fd = hold(identity)
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._soon: asyncio.Handle | None = None
        if self._fd is None:
            self._soon = self._loop.call_soon(ended)
        else:
            self._loop.add_reader(self._fd, self._fire)

    def close(self) -> None:
        """Stop watching; nothing is called any more."""
        if self._soon is not None:
            self._soon.cancel()
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _fire(self) -> None:
        self.close()
        self._ended()


class EngineProcess:
    """A worker, which this daemon spawned or took over.

    Args:
        popen: how it was spawned; `None` for one that an earlier daemon did.
        tree: its own.
    """

    def __init__(self, popen: subprocess.Popen[bytes] | None, tree: Tree) -> None:
        self._popen = popen
        self._status: int | None = None
        self.tree = tree

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self.identity.pid

    @property
    def identity(self) -> Identity:
        """The worker's identity."""
        assert self.tree.leader is not None
        return self.tree.leader

    def how_it_ended(self) -> str | None:
        """Say how the worker ended, in words, and collect its exit status; `None` while it runs."""
        if self._popen is not None:
            self._status = self._popen.poll()
        elif self._status is None:
            self._status = self._collect()
        if self._status is not None:
            signum = -self._status
            return f"was killed by signal {signum}" if signum > 0 else f"exited with status {self._status}"
        if self._popen is None and not self._runs():
            return "ended, nobody knows how: it was another process that had started it"
        return None

    def let_go(self) -> None:
        """Leave the worker, and its exit status, to whoever takes it over."""
        if self._popen is not None:
            self._popen.returncode = 0  # or Python would wait for it, and complain
            self._popen = None

    def _collect(self) -> int | None:
        """Get the exit status of a worker that this very process started before it executed new code."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status) if pid else None

    def _runs(self) -> bool:
        stat = read_stat(self.pid)
        return stat is not None and stat.identity == self.identity and not stat.dead


def spawn(
    engine_id: str, owned: Owned, python: pathlib.Path, cgroup: pathlib.Path | None, environment: dict[str, str]
) -> EngineProcess:
    """Spawn the worker of the engine whose directory we own.

    Plain `subprocess.Popen` without `preexec_fn`: CPython then uses vfork, which takes 0.3 ms and runs none of
    gRPC's fork handlers (5 ms and warnings otherwise). What has to happen in the child, the worker does first.

    Raises:
        OSError: the interpreter can't be run.
    """
    argv = [str(python), "-m", "vllmd_worker", str(owned.path)]
    log = os.open(owned.log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        popen = subprocess.Popen(
            argv,
            cwd=owned.path / SITE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    stat = read_stat(popen.pid)
    assert stat is not None, "a child that nobody has waited for is at least a zombie"
    return EngineProcess(popen, Tree(engine_id, stat.identity, cgroup, owned.path))
