"""One engine's cgroup: who is in it, whether anybody is, and the end of all of them.

Nothing leaves a cgroup by forking or by `setsid`, and the kernel kills all of one at once.
"""

from __future__ import annotations

import pathlib
import time

LEAF = "vllmd-daemon"
"""The cgroup beside the engines' that a daemon moves into, if its own has been given to it to divide."""

_LOOK_SECONDS = 0.005


def pids(cgroup: pathlib.Path) -> list[int]:
    """List the processes in the cgroup, except those that the kernel is already done listing (see `populated`)."""
    try:
        return [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]
    except OSError:
        return []  # removed already: nobody is in it


def populated(cgroup: pathlib.Path) -> bool:
    """Ask the kernel whether anybody is in the cgroup.

    `cgroup.procs` can't tell: it leaves out a process as soon as all of its threads are on their way out, while
    what they hold is still being freed (0.2 s for 1 GiB) and the cgroup can't be removed.
    """
    try:
        return "populated 1" in (cgroup / "cgroup.events").read_text()
    except OSError:
        return False  # removed already


def await_empty(cgroup: pathlib.Path, deadline: float) -> bool:
    """Wait until nobody is in the cgroup; tell whether that came true by *deadline* (`time.monotonic()`)."""
    while populated(cgroup):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def kill(cgroup: pathlib.Path) -> None:
    """Let the kernel SIGKILL everybody in the cgroup at once, whoever it is by now."""
    try:
        (cgroup / "cgroup.kill").write_text("1")
    except FileNotFoundError:
        return  # removed, or a kernel before 5.14: the signals do it


def leave(cgroup: pathlib.Path) -> bool:
    """Move this process out of an engine's cgroup, so that it outlives the others in there; tell whether that worked.

    The cgroup above the engines' takes nobody if controllers are in force below it; then there is a leaf beside them.
    """
    above = cgroup.parent.parent
    for other in (above / LEAF, above):
        try:
            (other / "cgroup.procs").write_text("0")
        except OSError:
            continue  # is not there, or takes nobody
        return True
    return False


def remove(cgroup: pathlib.Path) -> bool:
    """Remove an empty cgroup; tell whether it is gone."""
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # EBUSY: somebody is still in it
    return True
