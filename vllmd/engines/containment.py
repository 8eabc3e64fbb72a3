"""A cgroup for each engine where the daemon may make one, so that nothing of a tree can get away.

Nothing leaves a cgroup by forking or by `setsid`, and the kernel kills all of one at once. Where cgroups are
closed to the daemon (containers, unprivileged users without delegation), an engine is held together by its
session and our marker instead, and the daemon is child subreaper, so that orphans come back to it.

Under systemd (`Delegate=yes`) the unit's cgroup is the daemon's to divide. It moves itself into a leaf of it, since the
kernel lets a cgroup have either processes or children with controllers, and engines are to have those:

    vllmd.service/vllmd-daemon                  the daemon
    vllmd.service/vllmd-96691bec/engine-a1      an engine
    vllmd.service/.control                      what systemd runs for the unit beside it
"""

from __future__ import annotations

import ctypes
import logging
import os
import pathlib
import re
import zlib
from collections.abc import Mapping

from vllmd.config import Kind
from vllmd.errors import NotPossible
from vllmd.worker import cgroup as cgroups

_log = logging.getLogger(__name__)
_PR_SET_CHILD_SUBREAPER = 36
LEAF = cgroups.LEAF
GROUPS = "vllmd-"
"""How the names of the cgroups begin that engines' are in: one for each runtime directory."""
_ENGINE = "engine-"


def group_name(runtime_dir: pathlib.Path) -> str:
    """Name the cgroup of all engines: the same for each daemon of a runtime directory, so that it is found again."""
    return f"{GROUPS}{zlib.crc32(os.fsencode(runtime_dir)):08x}"


def is_an_engines(cgroup: pathlib.Path, engine_id: str) -> bool:
    """Tell whether a path can be that of an engine's cgroup: everybody in it gets killed."""
    if os.path.realpath(cgroup) != str(cgroup):
        return False  # a link or a detour leads to it, so its names say nothing
    return cgroup.name == f"{_ENGINE}{engine_id}" and cgroup.parent.name.startswith(GROUPS)


class Containment:
    """Makes and removes the engines' cgroups.

    Args:
        base: a directory in which cgroups can be made; `None` to do without.
        memory_max: bytes of main memory that each engine may use; `None` for as many as there are.
    """

    def __init__(self, base: pathlib.Path | None, memory_max: int | None = None) -> None:
        self._base = base
        self._memory_max = memory_max

    @property
    def base(self) -> pathlib.Path | None:
        """Where the engines' cgroups are made; `None` where there are none."""
        return self._base

    @property
    def kind(self) -> str:
        """`cgroup` or `session`."""
        return "session" if self._base is None else "cgroup"

    def path(self, engine_id: str) -> pathlib.Path | None:
        """Tell where an engine's cgroup is, made or not; `None` where there can't be one."""
        return None if self._base is None else self._base / f"{_ENGINE}{engine_id}"

    def engine_ids(self) -> list[str]:
        """List the engines that have a cgroup here."""
        if self._base is None or not self._base.is_dir():
            return []
        return sorted(path.name.removeprefix(_ENGINE) for path in self._base.glob(f"{_ENGINE}*/"))

    def make(self, engine_id: str) -> pathlib.Path | None:
        """Make a cgroup for an engine; `None` where that can't be done."""
        cgroup = self.path(engine_id)
        if cgroup is not None:
            # With its parent: a tree whose daemon died removes that behind itself, empty as it is.
            cgroup.mkdir(parents=True, exist_ok=True)
            if self._memory_max is not None:
                (cgroup / "memory.max").write_text(str(self._memory_max))
                # Half an engine is of no use: the kernel is to kill all of it or nobody.
                (cgroup / "memory.oom.group").write_text("1")
        return cgroup

    def close(self) -> None:
        """Remove the directory of all engines' cgroups, if it is empty."""
        if self._base is not None:
            cgroups.remove(self._base)


def open_containment(name: str, kind: Kind = "auto", memory_max: int | None = None) -> Containment:
    """Find out by trying whether cgroups can be made here, in a group called *name* below our own.

    Raises:
        NotPossible: *kind* is `cgroup`, and they can't; or memory is to be limited, and can't be.
    """
    if memory_max is None:
        return _open(name, kind)
    containment = _open(name, kind)
    own = divisible_cgroup()
    base = containment.base
    try:
        if own is None or base is None:
            raise OSError("there are no cgroups (v2) for engines here")
        for directory in (own, base):
            (directory / "cgroup.subtree_control").write_text("+memory")
    except OSError as error:
        containment.close()
        message = f"--engine-memory-max needs the memory controller of cgroup v2 for the daemon's own cgroup: {error}."
        raise NotPossible("NO_MEMORY_CONTROLLER", message) from error
    limited = Containment(base, memory_max)
    for engine_id in limited.engine_ids():  # of an earlier daemon, whose controllers `daemon.afterwards` took back
        limited.make(engine_id)
    return limited


def _open(name: str, kind: Kind) -> Containment:
    own = divisible_cgroup() if kind != "session" else None
    if own is not None:
        base = own / name
        try:
            base.mkdir(exist_ok=True)
            probe = base / "probe"
            probe.mkdir(exist_ok=True)
            killable = (probe / "cgroup.kill").exists()
            probe.rmdir()
            if killable:
                return Containment(base)
            cgroups.remove(base)
        except OSError as error:
            _log.info("no cgroups for engines: %s", error)
    if kind == "cgroup":
        raise NotPossible(
            "NO_CGROUPS", "This daemon may not make cgroups (v2) here, and --containment cgroup wants them."
        )
    return Containment(None)


def become_subreaper() -> None:
    """Have orphans of our descendants come to us as children, so that they can be reaped.

    Raises:
        OSError: the kernel refuses, which none since 3.4 does.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def enter_leaf(environment: Mapping[str, str] = os.environ, own: pathlib.Path | None = None) -> None:
    """Move this process into a leaf of its cgroup if systemd started it, and gave it that cgroup to divide.

    Anywhere else the cgroup is shared with others, whom this is not for.

    Args:
        environment: where systemd says whom it has started.
        own: this process's cgroup; `None` to look it up.
    """
    own = own or own_cgroup()
    if own is None or own.name == LEAF or environment.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return
    leaf = own / LEAF
    try:
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text("0")
    except OSError as error:
        _log.info("this unit's cgroup is not ours to divide: %s", error)


def divisible_cgroup() -> pathlib.Path | None:
    """Find the cgroup below which engines' are made: our own, or that which we are in a leaf of."""
    own = own_cgroup()
    return own.parent if own is not None and own.name == LEAF else own


def own_cgroup(proc: pathlib.Path = pathlib.Path("/proc/self")) -> pathlib.Path | None:
    """Find the directory of our own cgroup v2, wherever it is mounted; `None` without one."""
    lines = (proc / "cgroup").read_text().splitlines()
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    mount = _cgroup2_mount((proc / "mountinfo").read_text())
    if path is None or mount is None:
        return None
    directory = pathlib.Path(os.path.normpath(f"{mount}/{path}"))
    return directory if directory.is_dir() else None


def _cgroup2_mount(mountinfo: str) -> str | None:
    """Find where cgroup v2 is mounted: on hybrid hosts it is not `/sys/fs/cgroup`."""
    match = re.search(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ", mountinfo, re.MULTILINE)
    return match[1] if match else None
