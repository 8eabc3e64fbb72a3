"""What must hold whenever nothing is going on, whatever happened before."""

from __future__ import annotations

import pathlib

from tests.host.running import Home, RunningDaemon
from vllmd.engines.containment import group_name, own_cgroup
from vllmd.v1 import engine_pb2

_ENDED = (engine_pb2.Engine.STATE_STOPPED, engine_pb2.Engine.STATE_FAILED)


def wrong(place: Home, daemon: RunningDaemon) -> list[str]:
    """List everything that is not as it should be; none, if all is well."""
    return [*_processes(place), *_files(place), *_daemons_view(daemon)]


def _processes(place: Home) -> list[str]:
    return [f"process {identity.pid} is left" for identity in place.engine_processes()]


def _files(place: Home) -> list[str]:
    own = own_cgroup()
    group = own / group_name(place.path) if own is not None else None
    left = [
        *(place.path / "e").iterdir(),
        *(place.path / "sim" / "claims").iterdir(),
        *(place.path / "sim" / "ghosts").iterdir(),
        *(group.glob("engine-*") if group is not None else ()),
    ]
    shared = pathlib.Path("/dev/shm").glob(f"*vllmd-{tag_of(place)}*")
    return [f"{path} is left" for path in (*left, *shared)]


def tag_of(place: Home) -> str:
    """Tell what the names of this run's models begin with, so that what is left of them is told from another run's."""
    return "".join(filter(str.isalnum, place.path.name.lower()))[-6:]


def _daemons_view(daemon: RunningDaemon) -> list[str]:
    status = daemon.status()
    alive = [f"{engine.name} is {engine.state}" for engine in status.engines if engine.state not in _ENDED]
    proven = [
        f"{engine.name}: {engine.reclaim.summary}"
        for engine in status.engines
        if engine.state in _ENDED and not engine.reclaim.verified
    ]
    held = [
        f"GPU {gpu.index} has {gpu.used_bytes} bytes in use, {[process.pid for process in gpu.processes]}"
        for gpu in status.gpus
        if gpu.processes or gpu.HasField("quarantine")
    ]
    return [*alive, *proven, *held]
