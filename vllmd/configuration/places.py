"""Where the daemon's directories are, if nobody says."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

_XDG = {"XDG_CONFIG_HOME": ".config", "XDG_STATE_HOME": ".local/state", "XDG_CACHE_HOME": ".cache"}


def default_runtime_dir(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Tell where sockets go: systemd's directory, the user's, or `/run/vllmd` for root."""
    if directory := environment.get("RUNTIME_DIRECTORY"):
        return pathlib.Path(directory.partition(":")[0])
    if os.path.isabs(directory := environment.get("XDG_RUNTIME_DIR", "")):
        return pathlib.Path(directory) / "vllmd"
    if os.geteuid() == 0:
        return pathlib.Path("/run/vllmd")
    return pathlib.Path(f"/tmp/vllmd-{os.geteuid()}")  # noqa: S108 - made with mode 0700 and checked to be ours


def default_cache_dir(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Tell where compiled kernels go: systemd's directory or the user's."""
    if directory := environment.get("CACHE_DIRECTORY"):
        return pathlib.Path(directory.partition(":")[0])
    return xdg("XDG_CACHE_HOME", environment) / "vllmd"


def default_state_dir(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Tell where the journal goes: systemd's directory, the user's, or `/var/lib/vllmd` for root."""
    if directory := environment.get("STATE_DIRECTORY"):
        return pathlib.Path(directory.partition(":")[0])
    if os.geteuid() == 0 and not os.path.isabs(environment.get("XDG_STATE_HOME", "")):
        return pathlib.Path("/var/lib/vllmd")
    return xdg("XDG_STATE_HOME", environment) / "vllmd"


def xdg(name: str, environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Tell which directory a variable of the XDG Base Directory Specification names, or means if it names none.

    Relative ones are to be ignored, by that specification.
    """
    given = environment.get(name, "")
    return pathlib.Path(given if os.path.isabs(given) else os.path.join(os.path.expanduser("~"), _XDG[name]))
