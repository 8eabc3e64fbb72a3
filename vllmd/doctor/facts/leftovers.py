"""Lists what has the name of a vLLM process, of an engine's shared memory, or is an engine's directory."""

from __future__ import annotations

import os
import pathlib
import re
import time
from collections.abc import Collection

from vllmd.doctor.facts import locks
from vllmd.doctor.leftovers import Directory, LeftoverFacts, Process, Segment
from vllmd.watchdog.observe import PREFIX, adopts_orphans
from vllmd.worker.processes import Stat, processes, read_stat
from vllmd.worker.spec import OWNER_LOCK

_PROC = pathlib.Path("/proc")
_SHARED_MEMORY = pathlib.Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
_ENGINES = re.compile(r"(?:psm_|sem\.mp-)vllmd-([a-z0-9-]{1,24})_")
PAUSE_SECONDS = 1.0
_FOR_A_MOMENT = "DZX"
_ANYBODYS = "psm_"
"""How Python's multiprocessing begins the names of its segments, vLLM's included."""


def look(engines: pathlib.Path, *, serving: bool) -> LeftoverFacts:
    """List all of it.

    Args:
        engines: where the engines' directories are.
        serving: whether a daemon runs.
    """
    return LeftoverFacts(
        processes=vllm_processes(),
        segments=segments(_SHARED_MEMORY, engines),
        directories=directories(engines),
        serving=serving,
    )


def vllm_processes(pause: float = PAUSE_SECONDS) -> tuple[Process, ...] | None:
    """List the processes with vLLM's names, and whether whoever started each is still its parent.

    Anybody is dead, or waits in the kernel, for a moment: who is so is looked at again after a pause.
    """
    try:
        named = [stat for stat in processes() if stat.name.startswith(PREFIX)]
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
    if any(stat.state in _FOR_A_MOMENT for stat in named):
        time.sleep(pause)
        named = [now for stat in named if (now := read_stat(stat.identity.pid)) and now.identity == stat.identity]
    return tuple(_process(stat, namespace) for stat in named)


def segments(directory: pathlib.Path, engines: pathlib.Path) -> tuple[Segment, ...] | None:
    """List shared memory that is an engine's, or may be another vLLM's."""
    try:
        names = [one for one in os.listdir(directory) if one.startswith(_ANYBODYS) or _ENGINES.match(one)]
    except OSError:
        return None
    if not names:
        return ()
    mapped, all_seen = mapped_below(directory)
    found = (_segment(directory / name, engines, mapped, all_seen) for name in sorted(names))
    return tuple(one for one in found if one is not None)


def mapped_below(directory: pathlib.Path) -> tuple[Collection[str], bool]:
    """List the files of a directory that processes have mapped, and tell whether all processes could be seen."""
    mapped: set[str] = set()
    all_seen = True
    prefix = f"{directory}/"
    for pid in (name for name in os.listdir(_PROC) if name.isdigit()):
        try:
            lines = (_PROC / pid / "maps").read_text(errors="replace").splitlines()
        except PermissionError:
            all_seen = False
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        else:
            mapped.update(line[line.index(prefix) :] for line in lines if prefix in line)
    return mapped, all_seen


def directories(engines: pathlib.Path) -> tuple[Directory, ...] | None:
    """List engines' directories, and whether anybody answers for each."""
    try:
        found = sorted(path for path in engines.iterdir() if path.is_dir())
    except FileNotFoundError:
        return ()
    except OSError:
        return None
    text = locks.table()
    return tuple(Directory(path=str(path), owned=_owned(path, text)) for path in found)


def _process(stat: Stat, namespace: int) -> Process:
    parent = read_stat(stat.parent_pid) if stat.parent_pid else None
    # Of the same session it may have started it itself, as a container's first process does.
    adopted = parent is not None and parent.session != stat.session and adopts_orphans(parent, namespace)
    return Process(pid=stat.identity.pid, name=stat.name, state=stat.state, adopted=adopted, dead=stat.dead)


def _segment(path: pathlib.Path, engines: pathlib.Path, mapped: Collection[str], all_seen: bool) -> Segment | None:
    try:
        size = path.lstat().st_size
    except OSError:
        return None  # removed meanwhile
    ours = _ENGINES.match(path.name)
    used = str(path) in mapped or (ours is not None and (engines / ours[1]).exists())
    return Segment(
        path=str(path),
        size_bytes=size,
        engine=ours[1] if ours else None,
        used=True if used else False if all_seen else None,
    )


def _owned(directory: pathlib.Path, text: str | None) -> bool | None:
    if text is None:
        return None
    try:
        return locks.holder(directory / OWNER_LOCK, text) is not None
    except OSError:
        return None
