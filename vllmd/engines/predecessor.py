"""Engines of a daemon that died: whatever is left of them goes before this one calls itself ready.

Adopting them alive comes later; until then a restart ends what a crash left behind, in the same way as any
other engine is ended.
"""

from __future__ import annotations

import logging
import os
import pathlib
import re

from vllmd.engines import reclaim
from vllmd.engines.containment import is_an_engines
from vllmd.engines.directory import own
from vllmd.gpu.monitor import GpuMonitor
from vllmd.worker.processes import Identity, boot_id
from vllmd.worker.spec import LINK, LOG, OWNER_LOCK, PROGRESS, SITE, SPEC, TMP, Spec, read_progress, read_spec
from vllmd.worker.tree import Tree

_log = logging.getLogger(__name__)
_ID = re.compile(r"[a-z0-9-]{1,24}")
_NAMES = frozenset({LINK, LOG, OWNER_LOCK, PROGRESS, SITE, SPEC, TMP})


async def reclaim_all(root: pathlib.Path, monitor: GpuMonitor, timeout: float) -> list[reclaim.Report]:
    """End every engine whose directory is in *root* and has no owner; returns what that gave back.

    What holds anything that no engine's directory does is left alone.
    """
    reports = []
    for directory in sorted(path for path in root.iterdir() if _is_an_engines(path)):
        try:
            owned = own(directory)
        except BlockingIOError:
            _log.warning("engine %s belongs to another daemon that is still alive", directory.name)
            continue
        except FileNotFoundError:
            continue  # its tree has just ended itself
        except OSError as error:
            _log.error("engine %s can't be taken over: %s", directory.name, error)
            continue
        report = await reclaim.reclaim(_remains(directory), monitor, timeout)
        owned.disown()
        _log.warning("engine %s of a daemon that died: %s", directory.name, report.summary)
        reports.append(report)
    return reports


def _is_an_engines(path: pathlib.Path) -> bool:
    """Tell whether a directory is one that a daemon of this user has made for an engine, and nothing else.

    An empty one is: a daemon may die right after it has made it.
    """
    if path.is_symlink() or not path.is_dir() or not _ID.fullmatch(path.name) or path.stat().st_uid != os.geteuid():
        return False
    return _NAMES.issuperset(os.listdir(path))


def _remains(directory: pathlib.Path) -> reclaim.Remains:
    """Work out what there can be of an engine, from what it and its daemon wrote down."""
    spec = _spec(directory)
    cgroup = pathlib.Path(spec.cgroup) if spec is not None and spec.cgroup else None
    if cgroup is not None and not is_an_engines(cgroup, directory.name):
        _log.error("engine %s names a cgroup that can't be its own: %s", directory.name, cgroup)
        cgroup = None
    leader: Identity | None = None
    if spec is not None and spec.boot_id == boot_id():
        started = [event for event in read_progress(directory) if event.event == "started"]
        leader = Identity(started[0].pid, started[0].start_ticks) if started else None
    return reclaim.Remains(Tree(directory.name, leader, cgroup, directory), directory)


def _spec(directory: pathlib.Path) -> Spec | None:
    try:
        return read_spec(directory)
    except (OSError, ValueError, RecursionError) as error:
        # The daemon died while it wrote this. The marker in the environment still finds any process.
        _log.warning("engine %s has no readable spec: %s", directory.name, error)
        return None
