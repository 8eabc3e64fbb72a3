"""Tries whether a cgroup can be made here, as the daemon does, and removes it again."""

from __future__ import annotations

import os
import pathlib

from vllmd.config import Settings
from vllmd.doctor.containment import CgroupFacts
from vllmd.engines.containment import open_containment, own_cgroup


def look(settings: Settings, unit: str | None) -> CgroupFacts:
    """Make a cgroup under a name of our own, so that no daemon's is touched."""
    own = own_cgroup()
    tried = open_containment(f"vllmd-doctor-{os.getpid()}")
    tried.close()
    return CgroupFacts(
        wanted=settings.containment,
        own=None if own is None else str(own),
        made=tried.base is not None,
        controllers=None if own is None else controllers(own),
        memory_max=settings.engine_memory_max,
        unit=unit,
        root=os.geteuid() == 0,
    )


def controllers(cgroup: pathlib.Path) -> frozenset[str] | None:
    """Tell which controllers a cgroup has; `None` if that can't be read."""
    try:
        return frozenset((cgroup / "cgroup.controllers").read_text().split())
    except OSError:
        return None
