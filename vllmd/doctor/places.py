"""Judges the directories that the daemon and its engines write to. Pure."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterator, Sequence

from vllmd.doctor.finding import Finding, fail, ok, size, unknown, warn

_GIB = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A directory, or the nearest one above it that is there, on whose file system it would be made."""

    what: str
    """Such as `state_dir`."""
    path: str
    exists: bool
    writable: bool | None
    """By this user; `None` if it can't be seen."""
    read_only: bool = False
    """The file system is."""
    free_bytes: int | None = None
    """For this user; `None` if it can't be seen."""
    total_bytes: int | None = None
    mode: int | None = None
    """Of the directory itself; `None` if it is not there, or can't be seen."""
    ours: bool | None = None
    """Whether it is this user's; likewise."""
    setting: bool = True
    """Whether the configuration names it: if not, it is the hub's cache."""
    private: bool = True
    """Whether the daemon refuses it when others could write to it."""
    little_bytes: int = 0
    """Below this it is said to be full soon."""
    problem: str = ""
    """Why nothing could be made in it, whatever its file system."""


STATE_BYTES = 64 << 20
CACHE_BYTES = 5 * _GIB
"""Compiled kernels and graphs of some models."""
HUB_BYTES = 50 * _GIB
"""The weights of a mid-sized model."""
RUNTIME_BYTES = 256 << 20
"""Sockets, temporary files, and logs of 64 MiB each."""


def judge(places: Sequence[Place]) -> Iterator[Finding]:
    """Say of each whether it can be written, by whom else, and how much fits."""
    return (_place(place) for place in places)


def _place(place: Place) -> Finding:
    found = f"{place.path}{'' if place.exists else ' (not there yet)'}"
    if place.problem:
        return fail(place.what, place.problem, f"Choose a shorter {place.what}.")
    if "/~/" in place.path:  # what Python makes of a home that nobody has
        todo = "Set HOME for the daemon, " + ("or this directory by its setting." if place.setting else "or HF_HOME.")
        found = f"{place.path}: HOME is not set, and the user has no home"
        return (fail if place.setting else warn)(place.what, found, todo)
    if place.private and place.exists and place.mode is not None:
        if place.ours is False:
            return _not_ours(place, found)
        if place.mode & (stat.S_IWGRP | stat.S_IWOTH):
            todo = f"`chmod go-w {place.path}`: the daemon refuses what others could write to."
            return fail(place.what, f"{found} has mode {place.mode:o}", todo)
    if place.read_only or place.writable is False:
        return _closed(place, found)
    if place.writable is None or place.free_bytes is None:
        return unknown(place.what, f"{found} can't be seen by this user", "Run it as the daemon's user, or as root.")
    total = f" of {size(place.total_bytes)}" if place.total_bytes else ""
    found += f", {size(place.free_bytes)}{total} free"
    if place.free_bytes < place.little_bytes:
        todo = f"Make room; {size(place.little_bytes)} are little for what goes there."
        return (warn if place.free_bytes else fail)(place.what, found, todo)
    return ok(place.what, found)


def _not_ours(place: Place, found: str) -> Finding:
    todo = "Run the doctor as the user that the daemon runs as, or choose another directory."
    return warn(place.what, f"{found} is another user's: a daemon of yours would refuse it", todo)


def _closed(place: Place, found: str) -> Finding:
    why = "is on a read-only file system" if place.read_only else "can't be written by this user"
    if not place.setting:
        todo = "Set HF_HOME to a directory that can be written, or load only what is there already."
        return warn(place.what, f"{found} {why}: no model can be fetched", todo)
    todo = f"Have it made for the daemon's user, or set {place.what} to another; in the unit, see ReadWritePaths=."
    return fail(place.what, f"{found} {why}", todo)
