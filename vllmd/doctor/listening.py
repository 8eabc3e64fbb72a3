"""Judges the daemon's socket, its port and its locks: whether one runs, and whether another is in the way. Pure."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterator, Sequence

from vllmd.doctor.finding import Finding, fail, ok, unknown, warn

SOCKET_PATH_LIMIT = 107
"""Bytes in a Unix socket's path (`sun_path`)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock that only one daemon has, of its socket or its directory."""

    path: str
    held: bool | None
    """`None` if that can't be seen."""
    pid: int | None = None
    """Who holds it, as far as that is known."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """What answered on the socket."""

    version: str
    engine_python: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListeningFacts:
    """What is seen of the places where the daemon listens."""

    socket: str
    path_bytes: int
    kind: str | None
    """`socket`, `other`, or `None` if nothing is there."""
    mode: int | None = None
    wanted_mode: int = 0o600
    directory: str = ""
    directory_mode: int | None = None
    """`None` if it is not there."""
    daemon: Daemon | None = None
    """`None` if none answers."""
    why: str = ""
    """Why none answers."""
    denied: bool = False
    """This user may not connect."""
    own_version: str = ""
    """The doctor's."""
    engine_python: str = ""
    """By the configuration."""
    locks: Sequence[Lock] = ()
    listen: str | None = None
    """HOST:PORT, by the configuration."""
    port_taken: bool | None = None
    """Whether somebody listens there; `None` if that can't be seen, or nothing is configured."""


def judge(facts: ListeningFacts) -> Iterator[Finding]:
    """Say whether a daemon serves, could serve, or is kept from it."""
    yield _socket(facts)
    yield _daemon(facts)
    yield _port(facts)


def _socket(facts: ListeningFacts) -> Finding:
    if facts.path_bytes > SOCKET_PATH_LIMIT:
        found = f"{facts.socket} is {facts.path_bytes - SOCKET_PATH_LIMIT} bytes too long for a socket"
        return fail("socket", found, "Set `socket` or runtime_dir to a shorter path.")
    if facts.kind == "other":
        found = f"{facts.socket} is no socket, and the daemon would not replace it"
        return fail("socket", found, "Move it away, or set `socket` to another path.")
    others = facts.directory_mode is not None and facts.directory_mode & stat.S_IWOTH
    if others and not (facts.directory_mode or 0) & stat.S_ISVTX:
        found = f"anybody can replace it: {facts.directory} has mode {facts.directory_mode:o}"
        return fail("socket", found, f"`chmod o-w {facts.directory}`, or set `socket` to another directory.")
    if facts.kind is None:
        return ok("socket", f"{facts.socket} is free")
    if facts.daemon is not None and facts.mode is not None and facts.mode != facts.wanted_mode:
        found = f"{facts.socket} has mode {facts.mode:o}, and socket_mode is {facts.wanted_mode:o}"
        return warn("socket", found, "An upgrade in place (`kill -USR2`) puts the configured mode into force.")
    mode = f" (mode {facts.mode:o})" if facts.mode is not None else ""
    return ok("socket", f"{facts.socket}{mode}")


def _daemon(facts: ListeningFacts) -> Finding:
    holders = sorted({lock.pid for lock in facts.locks if lock.held and lock.pid is not None})
    if len(holders) > 1:
        found = f"two daemons: pids {', '.join(map(str, holders))} have the socket and runtime_dir"
        return fail("daemon", found, "Stop one of them, or give one a runtime_dir and a socket of its own.")
    pid = f" (pid {holders[0]})" if holders else ""
    if facts.daemon is not None:
        return _answers(facts, facts.daemon, pid)
    if facts.denied:
        return unknown(
            "daemon", f"this user may not connect to {facts.socket}", "Join the socket's group, or use sudo."
        )
    held = [lock for lock in facts.locks if lock.held]
    if held:
        found = f"does not answer{pid}, and holds {held[0].path}: {facts.why or 'it may be starting, or hang'}"
        return fail("daemon", found, "Look at its log (`journalctl -u vllmd -n 50`); a hung one has to be killed.")
    if facts.kind == "socket":
        return ok("daemon", "none runs; one that died left its socket, and the next replaces it")
    if any(lock.held is None for lock in facts.locks):
        return unknown("daemon", "none answers; whether one holds the locks can't be seen")
    return ok("daemon", "none runs, and nobody is in its way")


def _answers(facts: ListeningFacts, daemon: Daemon, pid: str) -> Finding:
    found = f"vllmd {daemon.version} answers{pid}" if daemon.version else f"one answers{pid}, and does not say more"
    if daemon.version not in ("", facts.own_version):
        todo = "`systemctl kill -s USR2 --kill-who=main vllmd` upgrades it in place and keeps the engines."
        return warn("daemon", f"{found}, and {facts.own_version} is installed", todo)
    if daemon.engine_python and facts.engine_python and daemon.engine_python != facts.engine_python:
        todo = "Run the doctor as its user and with its --config, or have it upgrade in place (SIGUSR2)."
        return warn("daemon", f"{found}, and has another engine_python: {daemon.engine_python}", todo)
    return ok("daemon", found)


def _port(facts: ListeningFacts) -> Finding:
    if facts.listen is None:
        return ok("port", "none is configured")
    if facts.port_taken is None:
        return unknown("port", f"whether somebody listens on {facts.listen} can't be seen")
    serves = facts.daemon is not None or facts.denied or any(lock.held is not False for lock in facts.locks)
    if not serves and facts.port_taken:
        found = f"{facts.listen} is taken, and not by this daemon"
        return fail("port", found, f"`ss -ltnp` names who has it; or set `listen` to another than {facts.listen}.")
    if facts.daemon is not None and not facts.port_taken:
        return warn("port", f"nobody listens on {facts.listen}", "An upgrade in place (`kill -USR2`) opens it.")
    return ok("port", f"{facts.listen}{'' if facts.port_taken else ' is free'}")
