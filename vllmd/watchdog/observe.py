"""What `/proc` says of the processes that hold GPU memory or are called like vLLM's own.

What can't be read is `None`, never guessed. Environments and name spaces are read once for each process and name, as
300 processes are looked at each second; who is about to be killed is looked at anew, by an `Observer` without a past.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from collections.abc import Collection, Mapping

from vllmd.worker.processes import Identity, Stat, marker, read_stat

_HOST_PID_NAMESPACE = 0xEFFFFFFC
"""The inode number that the kernel gives its first pid namespace: `PROC_PID_INIT_INO`."""

_CAP_KILL = 5
PREFIX = "VLLM::"
_EACH = 10
"""How many looks pass between two at a process that has long been something else."""


@dataclasses.dataclass(frozen=True, slots=True)
class Details:
    """What a process keeps for as long as it is what it is."""

    uid: int | None
    """Whose it is, as far as signals go."""
    pid_namespace: int | None
    net_namespace: int | None
    marker: tuple[str, str] | None
    """Engine id and directory, of a process of ours."""


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A process that is to be judged."""

    stat: Stat
    details: Details


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """All processes at one moment."""

    stats: Mapping[int, Stat]
    seen: Mapping[int, Seen]
    """Those that are to be judged."""
    missing: frozenset[int]
    """Those that NVML lists and `/proc` does not."""

    @property
    def called_like_vllm(self) -> list[Stat]:
        """The living ones that have a name of vLLM's."""
        stats = (seen.stat for seen in self.seen.values())
        return [stat for stat in stats if stat.name.startswith(PREFIX) and not stat.dead]


class Observer:
    """Looks, and remembers what does not change.

    To read hundreds of processes each second would cost more than all else that an idle daemon does. One that has long
    been something else does not become vLLM's, nor gets a new parent that matters, so it is read at each tenth look
    only. That it is gone is seen at once, though not that it is a zombie: whose death counts is held by a pidfd.

    Args:
        settled_seconds: the age from which on a process is such a one.
    """

    def __init__(self, settled_seconds: float = 300.0) -> None:
        self._settled_seconds = settled_seconds
        self._settled: dict[int, Stat] = {}
        self._looks = 0
        self._known: dict[tuple[Identity, str], Details] = {}
        own = details(os.getpid())
        self.own_pid_namespace = own.pid_namespace
        self.own_net_namespace = own.net_namespace

    @property
    def host_pids(self) -> bool:
        """Tell whether our pids are the host's, as NVML's are."""
        return self.own_pid_namespace == _HOST_PID_NAMESPACE

    def look(self, on_gpus: Collection[int]) -> Look:
        """Look at all processes; those in *on_gpus* and those called like vLLM's are looked at closely."""
        stats = self._stats(on_gpus)
        # A zombie that is on no GPU holds nothing any more, whatever it was called.
        wanted = [
            stat for pid, stat in stats.items() if pid in on_gpus or (stat.name.startswith(PREFIX) and not stat.dead)
        ]
        keys = {(stat.identity, stat.name) for stat in wanted}
        self._known = {key: value for key, value in self._known.items() if key in keys}
        seen = {stat.identity.pid: Seen(stat, self._details(stat)) for stat in wanted}
        return Look(stats, seen, frozenset(on_gpus) - stats.keys())

    def _stats(self, on_gpus: Collection[int]) -> dict[int, Stat]:
        """Read all processes, or know them."""
        self._looks += 1
        stats = {}
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            known = self._settled.get(pid)
            stale = known is None or pid in on_gpus or (pid + self._looks) % _EACH == 0
            stat = read_stat(pid) if stale else known
            if stat is not None:
                stats[pid] = stat
        youngest = (time.clock_gettime(time.CLOCK_BOOTTIME) - self._settled_seconds) * os.sysconf("SC_CLK_TCK")
        self._settled = {
            pid: stat
            for pid, stat in stats.items()
            if stat.identity.start_ticks < youngest and not stat.dead and not stat.name.startswith(PREFIX)
        }
        return stats

    def _details(self, stat: Stat) -> Details:
        key = (stat.identity, stat.name)
        if key not in self._known:
            self._known[key] = details(stat.identity.pid)
        return self._known[key]


def details(pid: int) -> Details:
    """Read what does not change of a process; of one that is gone, nothing is known."""
    return Details(_uid(pid), _namespace(pid, "pid"), _namespace(pid, "net"), marker(pid))


def command(pid: int) -> tuple[str, ...] | None:
    """Read the command line of a process; `None` if it can't be read."""
    try:
        text = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return tuple(os.fsdecode(part) for part in text.split(b"\0") if part)


def adopts_orphans(stat: Stat, own_pid_namespace: int | None) -> bool:
    """Tell whether a process is known to adopt orphans in our pid namespace.

    Any process may (`PR_SET_CHILD_SUBREAPER`): a container's shim, a shell, a service manager. The kernel does not
    say which, and who is not known may as well have started what it is the parent of.
    """
    pid = stat.identity.pid
    if pid == 1:
        return True
    if stat.name != "systemd" or own_pid_namespace is None or _namespace(pid, "pid") != own_pid_namespace:
        return False
    return "--user" in (command(pid) or ())


def may_kill(uid: int | None) -> bool:
    """Tell whether we may signal a user's processes; not if we don't know whose they are."""
    return uid is not None and (uid == os.geteuid() or bool(_effective_capabilities() >> _CAP_KILL & 1))


def boot_time() -> float:
    """Tell when this host was booted, in seconds since the epoch."""
    lines = pathlib.Path("/proc/stat").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime"))


def _effective_capabilities() -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def _uid(pid: int) -> int | None:
    """The effective one. That of its files in `/proc` is root's for a process that may not be dumped."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    # Real, effective, saved, of the file system. `kill` goes by the real and the saved one of its target.
    uids = next((line.split()[1:] for line in lines if line.startswith("Uid:")), [])
    return int(uids[0]) if len(uids) == 4 and uids[0] == uids[2] else None


def _namespace(pid: int, kind: str) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    except OSError:
        return None  # gone, or another user's
