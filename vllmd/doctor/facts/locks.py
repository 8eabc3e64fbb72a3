"""Reads who holds a file's lock without trying to take it: a daemon that starts meanwhile would be refused."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator

_LINE = re.compile(r"^\d+:\s+FLOCK\s+\S+\s+WRITE\s+(-?\d+)\s+([0-9a-f]+):([0-9a-f]+):(\d+)\s", re.MULTILINE)

Held = tuple[int, int, int]
"""Who holds a lock: the pid, and the file's device and inode."""


def held(text: str) -> Iterator[Held]:
    """Read `/proc/locks`: the exclusive ones, without those that only wait."""
    for pid, major, minor, inode in _LINE.findall(text):
        yield int(pid), os.makedev(int(major, 16), int(minor, 16)), int(inode)


def holder(path: pathlib.Path, text: str) -> int | None:
    """Tell the pid of who holds the lock of a file; `None` if nobody of this pid namespace does.

    Some file systems have another device in `/proc/locks` than `stat` tells. There the file's own word, which the
    daemon writes, has to fit.

    Raises:
        OSError: the file can't be seen, other than by not being there.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    for pid, device, inode in held(text):
        if inode == status.st_ino and (device == status.st_dev or pid == written(path)):
            return pid
    return None


def written(path: pathlib.Path) -> int | None:
    """Read the pid that a daemon wrote into its lock."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None  # another user's; the kernel's word is enough then
    return int(text) if text.isascii() and text.isdecimal() else None


def table() -> str | None:
    """Read `/proc/locks`; `None` where the kernel does not say."""
    try:
        return pathlib.Path("/proc/locks").read_text()
    except OSError:
        return None
