"""Where the daemon listens, if nobody says."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping

_SERVICE = "/run/vllmd"
_OPERATORS = "admin.sock"
_USERS = "vllmd.sock"


def is_private(directory: str) -> bool:
    """True if *directory* is one, is this user's, and nobody else can put anything there."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def may_connect(socket: str) -> bool:
    """True if *socket* is there and its mode lets this user connect."""
    return os.access(socket, os.W_OK)


def default_target(
    environ: Mapping[str, str] = os.environ,
    exists: Callable[[str], bool] = os.path.exists,
    is_private: Callable[[str], bool] = is_private,
    may_connect: Callable[[str], bool] = may_connect,
) -> str:
    """Choose `VLLMD_ADDRESS`, else the user's own daemon, unless only the one that runs as a service is there.

    Of a daemon's two sockets it is the operators', if this user may connect to it.
    """
    if address := environ.get("VLLMD_ADDRESS"):
        return normalize(address)
    places = [*_own_places(environ, is_private), _SERVICE]
    for place in places:
        if may_connect(operators := f"{place}/{_OPERATORS}"):
            return f"unix:{operators}"
        if exists(users := f"{place}/{_USERS}"):
            return f"unix:{users}"
    return f"unix:{places[0]}/{_USERS}"


def normalize(address: str | os.PathLike[str]) -> str:
    """Let people write a socket's bare path; everything else is already in gRPC's own form."""
    if isinstance(address, os.PathLike):
        return f"unix:{os.path.abspath(address)}"
    if not isinstance(address, str):
        raise TypeError(f"a target is an address or a socket's path, not {address!r}")
    return f"unix:{address}" if address.startswith("/") else address


def _own_places(environ: Mapping[str, str], is_private: Callable[[str], bool]) -> Iterator[str]:
    """List in which directories a daemon of this user's may listen, the likeliest first."""
    if runtime_dir := environ.get("XDG_RUNTIME_DIR"):
        yield f"{runtime_dir}/vllmd"
    # Where it goes if it was started without XDG_RUNTIME_DIR. Anybody can make a directory of this name, and prompts
    # would go to whoever did.
    fallback = f"/tmp/vllmd-{os.geteuid()}"  # noqa: S108
    if is_private(fallback):
        yield fallback
