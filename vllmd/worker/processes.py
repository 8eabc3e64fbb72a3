"""Processes of this host: which one exactly, what it is doing, and a signal to no other.

A pid is not an identity: a process is named by its pid *and* its start time, and is held by a pidfd from the
moment it is checked until it is signalled, so that a recycled pid is never hit. This is the one place that
sends a signal, for the daemon and for a worker that ends its own tree alike (so it needs nothing but the
standard library).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
from collections.abc import Collection, Iterable

from .spec import ENGINE_DIR_VARIABLE, ENGINE_ID_VARIABLE

_PROC = pathlib.Path("/proc")
_STAT_BYTES = 4096
"""More than the line ever has: 52 numbers and a name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A process of this boot."""

    pid: int
    start_ticks: int
    """Start time in clock ticks since boot: `/proc/PID/stat`, field 22."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stat:
    """What `/proc/PID/stat` says about a process."""

    identity: Identity
    name: str
    """`comm`: at most 15 bytes, so `VLLM::EngineCor`."""
    state: str
    parent_pid: int
    session: int
    threads: int

    @property
    def dead(self) -> bool:
        """True for a process that has ended and only waits for its parent to ask.

        One whose first thread has ended is a zombie too, and yet holds all that it had until the last one has.
        """
        return self.state in "ZX" and self.threads <= 1


def boot_id() -> str:
    """Identify this boot of the host: a pid of another boot means nothing."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def read_stat(pid: int) -> Stat | None:
    """Read a process's `/proc/PID/stat`; `None` if there is no such process."""
    # Not by way of pathlib and a text file: the watchdog reads this of every process each second.
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        text = os.read(fd, _STAT_BYTES).decode(errors="replace")
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    # The name is in parentheses and may hold spaces and parentheses itself: cut at the last one.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    identity = Identity(pid, int(fields[19]))
    return Stat(identity, head.partition("(")[2], fields[0], int(fields[1]), int(fields[3]), int(fields[17]))


def processes() -> list[Stat]:
    """Read the stat of every process on the host."""
    pids = [int(name) for name in os.listdir(_PROC) if name.isdigit()]
    return [stat for stat in map(read_stat, pids) if stat is not None]


def marker(pid: int) -> tuple[str, str] | None:
    """Read our marker from a process's environment: the engine's id and its directory.

    `None` if it has none, is another user's, we may not look, or its directory is in another file system than what we
    call by that name: an engine of a daemon in another container. It survives vLLM's `setproctitle` only with
    `SPT_NOENV=1`.
    """
    try:
        if (_PROC / str(pid)).stat().st_uid != os.geteuid():
            return None
        environ = (_PROC / str(pid) / "environ").read_bytes()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    values = dict(entry.partition(b"=")[::2] for entry in environ.split(b"\0"))
    engine_id = values.get(ENGINE_ID_VARIABLE.encode())
    directory = os.fsdecode(values.get(ENGINE_DIR_VARIABLE.encode(), b""))
    if engine_id is None or (directory and not _sees_the_same(pid, os.path.dirname(directory))):
        return None
    return os.fsdecode(engine_id), directory


def _sees_the_same(pid: int, path: str) -> bool:
    """Tell whether a process means by a path what we do: with `--pid=host`, containers see each other's processes.

    Each start of a unit has a mount namespace of its own, in which the directory is the same.
    """
    process = f"/proc/{pid}"
    try:
        if os.path.samestat(os.stat(f"{process}/ns/mnt"), os.stat("/proc/self/ns/mnt")):
            return True
        return os.path.samestat(os.stat(f"{process}/root{path}"), os.stat(path))
    except OSError:
        return False


def hold(identity: Identity) -> int | None:
    """Open a pidfd on exactly this process; `None` if it is gone. The caller closes it."""
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Only now can the pid not change hands any more, so only now is it worth looking who has it.
    stat = read_stat(identity.pid)
    if stat is not None and stat.identity == identity:
        return fd
    os.close(fd)
    return None


def terminate(identity: Identity) -> bool:
    """Ask a process to end (SIGTERM); tell whether it was still there to be asked."""
    return signal_to(identity, signal.SIGTERM)


def signal_to(identity: Identity, signum: signal.Signals) -> bool:
    """Signal exactly this process; tell whether it was still there."""
    fd = hold(identity)
    if fd is None:
        return False
    try:
        return send(fd, signum)
    finally:
        os.close(fd)


def reap(pids: Iterable[int]) -> None:
    """Collect the exit statuses of those of *pids* that are dead children of ours.

    As child subreaper the daemon inherits the orphans of its engines, and they stay zombies until then.
    """
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue  # somebody else's child, or collected already


def reap_strangers(known: Collection[int]) -> None:
    """Collect dead children that nobody waits for: what engines orphan comes to the daemon, the child subreaper.

    Args:
        known: process ids of children that somebody does wait for.
    """
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        # One that is known is in front until its own waiter has seen it; the rest has time until then.
        if dead is None or dead.si_pid in known:
            return
        reap([dead.si_pid])


def send(fd: int, signum: signal.Signals) -> bool:
    """Signal the process that a pidfd is on; tell whether it was still there."""
    try:
        signal.pidfd_send_signal(fd, signum)
    except ProcessLookupError:
        return False
    return True
