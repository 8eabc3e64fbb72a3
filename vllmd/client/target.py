"""Where the daemon listens, if nobody says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

_SERVICE_SOCKET = "/run/vllmd/vllmd.sock"


def default_target(environ: Mapping[str, str] = os.environ, exists: Callable[[str], bool] = os.path.exists) -> str:
    """Choose `VLLMD_ADDRESS`, else the user's own daemon, unless only the one that runs as a service is there."""
    if address := environ.get("VLLMD_ADDRESS"):
        return normalize(address)
    if runtime_dir := environ.get("XDG_RUNTIME_DIR"):
        own = f"{runtime_dir}/vllmd/vllmd.sock"
        if exists(own) or not exists(_SERVICE_SOCKET):
            return f"unix:{own}"
    return f"unix:{_SERVICE_SOCKET}"


def normalize(address: str) -> str:
    """Let people write a socket's bare path; everything else is already in gRPC's own form."""
    return f"unix:{address}" if address.startswith("/") else address
