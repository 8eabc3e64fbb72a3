"""What systemd runs when the daemon has ended (`ExecStopPost=`): ends engines that it did not, unless it comes back.

Under `KillMode=process` engines outlive a daemon that crashed, and the next one takes them over. After a stop there is
no next one. systemd says how the daemon ended but not whether somebody asked for that, so a daemon that was asked to
end leaves a note until it has ended well. This cannot prove that memory is back, and is not needed if the daemon did.

Where engines stay, controllers are taken back from them: the kernel lets nobody into a cgroup with controllers in force
below it, so systemd could not start the next daemon there (seen on 252: status 219/CGROUP, again and again). That one
puts them in force again, and what an engine had used before then does not count against its limit.

    python -m vllmd.daemon.afterwards
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from vllmd.configuration.places import default_runtime_dir
from vllmd.engines.containment import GROUPS, own_cgroup
from vllmd.worker import cgroup as cgroups
from vllmd.worker import leftovers
from vllmd.worker.spec import OWNER_LOCK

_NOTE = "stopping"
_KILL_SECONDS = 20.0
_LOOK_SECONDS = 0.01
_OWN = ".control"
"""The cgroup below a unit's that systemd runs such commands in."""


@contextlib.contextmanager
def noted(runtime_dir: pathlib.Path) -> Iterator[None]:
    """Leave a note for as long as the daemon is about to end for good; it stays if this does not end well."""
    note = runtime_dir / _NOTE
    note.touch()
    yield
    note.unlink(missing_ok=True)


def forget(runtime_dir: pathlib.Path) -> None:
    """Take away the note of a daemon that did not end well."""
    (runtime_dir / _NOTE).unlink(missing_ok=True)


def is_over(result: str, runtime_dir: pathlib.Path) -> bool:
    """Decide whether engines that are left have to end: after a stop, not after a crash.

    Args:
        result: `$SERVICE_RESULT`.
        runtime_dir: where the daemon left its note.
    """
    return result == "success" or (runtime_dir / _NOTE).exists()


def end_all(unit: pathlib.Path | None, runtime_dir: pathlib.Path, timeout: float = _KILL_SECONDS) -> list[str]:
    """SIGKILL everybody in a unit but this process, and remove what engines leave; returns what is still there.

    Everybody, as the cgroups are the service's user's: what an engine runs can move itself into any of them.

    Args:
        unit: its cgroup; `None` where there are none. Then engines see that nobody wants them, and end themselves.
        runtime_dir: the daemon's.
        timeout: seconds that it may take.
    """
    deadline = time.monotonic() + timeout
    left = []
    if unit is not None:
        groups = [group for group in unit.glob("*/") if group.name != _OWN]
        for group in groups:
            cgroups.kill(group)
        left = [*_end_strays((unit, unit / _OWN), deadline)]
        left += [str(group) for group in groups if not cgroups.await_empty(group, deadline)]
        for group in groups:
            for engine in (*sorted(group.rglob("*/"), reverse=True), group):
                cgroups.remove(engine)
    for directory in (runtime_dir / "e").glob("*/"):
        leftovers.remove_shared_memory(directory.name)
        (directory / OWNER_LOCK).unlink(missing_ok=True)
    return left


def _end_strays(places: Sequence[pathlib.Path], deadline: float) -> list[str]:
    """SIGKILL all processes of cgroups but this one, for as long as there are any; returns those that stay."""
    while strays := {pid for place in places for pid in cgroups.pids(place)} - {os.getpid()}:
        if time.monotonic() > deadline:
            return sorted(f"process {pid}" for pid in strays)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
    return []


def take_controllers_back(unit: pathlib.Path) -> None:
    """Have no controller in force below a unit's cgroup, from the bottom up, as the kernel wants it."""
    for cgroup in (*unit.glob(f"{GROUPS}*/"), unit):
        control = cgroup / "cgroup.subtree_control"
        if in_force := control.read_text().split():
            control.write_text(" ".join(f"-{name}" for name in in_force))


def unit_cgroup() -> pathlib.Path | None:
    """Find the cgroup of the unit that this runs for: systemd puts such commands into a child of it."""
    own = own_cgroup()
    return own.parent if own is not None and own.name == _OWN else None


def main() -> int:
    """Do what has to be done; returns the exit status."""
    result, runtime_dir, unit = os.environ.get("SERVICE_RESULT", ""), default_runtime_dir(), unit_cgroup()
    if not is_over(result, runtime_dir):
        sys.stderr.write(f"<5>the daemon ended by {result or 'nobody knows what'}: engines stay for the next one\n")
        if unit is not None:
            take_controllers_back(unit)
        return 0
    left = end_all(unit, runtime_dir)
    if left:
        sys.stderr.write(f"<3>not gone in time: {', '.join(left)}\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
