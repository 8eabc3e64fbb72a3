"""Looks at the daemon's socket, port and locks, and asks a daemon that is there who it is."""

from __future__ import annotations

import os
import pathlib
import stat

from vllmd import __version__
from vllmd.config import Settings
from vllmd.doctor.facts import locks
from vllmd.doctor.listening import Daemon, ListeningFacts, Lock
from vllmd.watchdog.tcp import LISTEN, tcp_sockets

SECONDS = 3.0
"""A daemon that takes longer over a question about its own state hangs."""


def look(settings: Settings) -> ListeningFacts:
    """Look at them; no lock is taken, and no daemon is told to do anything."""
    path, directory = settings.socket, _status(settings.socket.parent)
    status = _status(path)
    sockets = status is not None and stat.S_ISSOCK(status.st_mode)
    denied = sockets and not os.access(path, os.R_OK | os.W_OK)
    daemon, why = ask(path) if sockets and not denied else (None, "")
    return ListeningFacts(
        socket=str(path),
        path_bytes=len(os.fsencode(path)),
        kind=None if status is None else "socket" if sockets else "other",
        mode=None if status is None else stat.S_IMODE(status.st_mode),
        wanted_mode=settings.socket_mode,
        directory=str(path.parent),
        directory_mode=None if directory is None else stat.S_IMODE(directory.st_mode),
        daemon=daemon,
        why=why,
        denied=denied,
        own_version=__version__,
        engine_python=str(settings.engine_python),
        locks=tuple(lock(pathlib.Path(f"{one}.lock")) for one in (path, settings.runtime_dir / "vllmd")),
        listen=settings.listen,
        port_taken=None if settings.listen is None else port_taken(settings.listen),
    )


def lock(path: pathlib.Path) -> Lock:
    """See whether somebody holds a daemon's lock."""
    text = locks.table()
    if text is None:
        return Lock(path=str(path), held=None)
    try:
        pid = locks.holder(path, text)
    except OSError:
        return Lock(path=str(path), held=None)
    return Lock(path=str(path), held=pid is not None, pid=pid)


def ask(socket: pathlib.Path, seconds: float = SECONDS) -> tuple[Daemon | None, str]:
    """Ask whoever listens there for its version; `None` and the reason if nobody answers."""
    from vllmd.client import Client, DaemonUnreachable, VllmdError  # only now: gRPC takes a while to import

    with Client(str(socket)) as client:
        try:
            host = client.status(timeout=seconds).host
        except DaemonUnreachable:
            return None, ""  # nobody accepts a connection, which gRPC says in many more words
        except VllmdError as error:
            if error.code.name == "DEADLINE_EXCEEDED":
                return None, f"no answer within {seconds:g} seconds"
            return Daemon(version=""), ""  # it refuses to say, so it is there
    return Daemon(version=host.version, engine_python=host.engine_python), ""


def port_taken(listen: str) -> bool | None:
    """Tell whether somebody of this network namespace listens on a port; `None` if the kernel does not say."""
    sockets = tcp_sockets()
    port = listen.rpartition(":")[2]
    if sockets is None or not port.isdecimal():
        return None
    return any(one.state == LISTEN and one.here.port == int(port) for one in sockets)


def _status(path: pathlib.Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None  # not there, or in a directory of somebody else's; `lock` tells the two apart
