"""Whether the service may run what is at a path: can its user get there, and can nobody else change it."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Iterator

_EVERYBODY_ENTERS = stat.S_IXOTH
_EVERYBODY_READS = stat.S_IROTH
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def unreachable(path: pathlib.Path) -> str:
    """Say what keeps users without any rights from running what is at a path, links followed; empty if nothing does.

    Of a directory all is looked at that is below it.
    """
    return next(filter(None, map(_closed, _involved(path))), "")


def changeable(path: pathlib.Path) -> str:
    """Say by whom but root what is at a path could be changed, links followed; empty if by nobody.

    Of a directory all is looked at that is below it. One in which everybody may write, but only the owner of something
    remove it, lets nobody change what root has in it.
    """
    return next(filter(None, map(_open, _involved(path))), "")


def _closed(one: pathlib.Path) -> str:
    try:
        mode = one.stat().st_mode
    except OSError as error:
        return f"{one}: {error.strerror}"
    if stat.S_ISDIR(mode) and not mode & _EVERYBODY_ENTERS:
        return f"{one} is closed to others (mode {stat.S_IMODE(mode):o})"
    if not stat.S_ISDIR(mode) and not mode & _EVERYBODY_READS:
        return f"{one} can't be read by others (mode {stat.S_IMODE(mode):o})"
    return ""


def _open(one: pathlib.Path) -> str:
    try:
        status = one.stat()
    except OSError as error:
        return f"{one}: {error.strerror}"
    if status.st_uid != 0:
        return f"{one} belongs to uid {status.st_uid}"
    if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
        return f"{one} can be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    return ""


def _involved(path: pathlib.Path) -> Iterator[pathlib.Path]:
    yield from _on_the_way(path)
    for directory, names, files in os.walk(path):
        # A link that leads nowhere, as one to what is installed beside, is nothing that could be run.
        yield from (one for name in (*names, *files) if (one := pathlib.Path(directory, name)).exists())


def _on_the_way(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """List a path and the directories that lead to it, as it is written and as it is once links are followed."""
    written, real = pathlib.Path(os.path.abspath(path)), pathlib.Path(os.path.realpath(path))
    yield from dict.fromkeys([*reversed(real.parents), real, *reversed(written.parents), written])
