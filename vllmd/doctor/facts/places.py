"""Looks at the daemon's directories, and at the file systems that they are on or would be made on."""

from __future__ import annotations

import os
import pathlib
import stat

from vllmd.config import Settings
from vllmd.doctor.places import CACHE_BYTES, HUB_BYTES, RUNTIME_BYTES, STATE_BYTES, Place
from vllmd.engines.directory import longest_root
from vllmd.models.files import hub_cache

ENGINES = "e"
"""Where in runtime_dir the engines' directories are."""


def look(settings: Settings) -> tuple[Place, ...]:
    """Look at all of them."""
    too_long = longest_root(settings.runtime_dir / ENGINES) or ""
    return (
        place("runtime_dir", settings.runtime_dir, little_bytes=RUNTIME_BYTES, problem=too_long),
        place("state_dir", settings.state_dir, little_bytes=STATE_BYTES),
        place("cache_dir", settings.cache_dir, little_bytes=CACHE_BYTES),
        place("hub cache", hub_cache().absolute(), little_bytes=HUB_BYTES, setting=False),
    )


def place(what: str, path: pathlib.Path, *, little_bytes: int, setting: bool = True, problem: str = "") -> Place:
    """Look at a directory; what this user can't see is `None`."""
    blank = Place(
        what=what,
        path=str(path),
        exists=False,
        writable=None,
        setting=setting,
        private=setting,
        little_bytes=little_bytes,
        problem=problem,
    )
    try:
        there = nearest(path)
        status, system = there.stat(), os.statvfs(there)
    except OSError:
        return blank
    exists = there == path
    return Place(
        what=what,
        path=str(path),
        exists=exists,
        writable=stat.S_ISDIR(status.st_mode) and os.access(there, os.W_OK | os.X_OK),
        read_only=bool(system.f_flag & os.ST_RDONLY),
        free_bytes=system.f_bavail * system.f_frsize,
        total_bytes=system.f_blocks * system.f_frsize,
        mode=stat.S_IMODE(status.st_mode) if exists else None,
        ours=status.st_uid == os.geteuid() if exists else None,
        setting=setting,
        private=setting,
        little_bytes=little_bytes,
        problem=problem,
    )


def nearest(path: pathlib.Path) -> pathlib.Path:
    """Find the nearest directory on the way to a path that is there.

    Raises:
        OSError: that can't be seen.
    """
    for one in (path, *path.parents):
        try:
            one.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return one
    return pathlib.Path("/")
