"""What an engine has on this host at one moment, or has left there: processes, files, shared memory, cgroups."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator

from vllmd.engines.containment import group_name, own_cgroup
from vllmd.worker.processes import Identity, marker, processes


def engine_processes(runtime_dir: pathlib.Path, engine_id: str | None = None) -> list[Identity]:
    """Find living processes of an engine, or of all of a runtime directory, wherever they have got to."""
    mine = f"{runtime_dir}/e/"
    found = []
    for stat in processes():
        owner = marker(stat.identity.pid)
        if not stat.dead and owner is not None and engine_id in (None, owner[0]) and owner[1].startswith(mine):
            found.append(stat.identity)
    return found


@dataclasses.dataclass(frozen=True)
class Leftovers:
    """All that there is of one engine."""

    processes: frozenset[str]
    sockets: frozenset[str]
    files: frozenset[str]
    shared_memory: frozenset[str]
    cgroups: frozenset[str]

    def __bool__(self) -> bool:
        """Tell whether there is anything."""
        return any(getattr(self, name) for name in names())

    def listed(self) -> list[str]:
        """List everything."""
        return [f"{name}: {item}" for name in names() for item in sorted(getattr(self, name))]


def look(runtime_dir: pathlib.Path, engine_id: str) -> Leftovers:
    """Look for everything of an engine: by its marker, and in all places where its processes leave things."""
    paths = list(_walk(runtime_dir / "e" / engine_id))
    cgroup = own_cgroup()
    group = cgroup / group_name(runtime_dir) if cgroup else None
    return Leftovers(
        frozenset(str(identity.pid) for identity in engine_processes(runtime_dir, engine_id)),
        frozenset(str(path) for path in paths if path.is_socket()),
        frozenset(str(path) for path in paths if not path.is_socket()),
        frozenset(str(path) for path in pathlib.Path("/dev/shm").glob(f"*vllmd-{engine_id}*")),
        frozenset(str(path) for path in group.glob(f"engine-{engine_id}")) if group else frozenset(),
    )


def _walk(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Go through a directory that may be removed meanwhile, which `rglob` does not survive."""
    for root, directories, files in os.walk(directory):
        yield from (pathlib.Path(root, name) for name in (*directories, *files))
    if directory.exists():
        yield directory


def names() -> list[str]:
    """Name the kinds of things that are looked for."""
    return [field.name for field in dataclasses.fields(Leftovers)]
