"""Where an installation's files are: a host's, or those of one user. Pure."""

from __future__ import annotations

import dataclasses
import pathlib

UNIT = "vllmd.service"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The places of one installation."""

    unit: pathlib.Path
    configuration: pathlib.Path
    """The file; drop-ins are beside it."""
    sysusers: pathlib.Path | None = None
    tmpfiles: pathlib.Path | None = None
    packaged: tuple[pathlib.Path, ...] = ()
    """Where a package's unit would be."""
    data: tuple[pathlib.Path, ...]
    """What the daemon and its engines keep."""
    address: str
    """Where its daemon serves operators."""
    systemctl: tuple[str, ...]
    user: bool
    """Whether it is one user's."""


def of_host(root: pathlib.Path = pathlib.Path("/")) -> Layout:
    """Lay it out for a host, in the places of its administrator.

    Args:
        root: under which all of it is.
    """
    return Layout(
        unit=root / "etc/systemd/system" / UNIT,
        configuration=root / "etc/vllmd/vllmd.toml",
        sysusers=root / "etc/sysusers.d/vllmd.conf",
        tmpfiles=root / "etc/tmpfiles.d/vllmd.conf",
        packaged=(root / "usr/lib/systemd/system" / UNIT, root / "lib/systemd/system" / UNIT),
        data=(root / "var/lib/vllmd", root / "var/cache/vllmd", root / "var/log/vllmd"),
        address=f"unix:{root / 'run/vllmd/admin.sock'}",
        systemctl=("systemctl",),
        user=False,
    )


def of_user(config: pathlib.Path, state: pathlib.Path, cache: pathlib.Path, runtime: pathlib.Path) -> Layout:
    """Lay it out for one user.

    Args:
        config: what `XDG_CONFIG_HOME` names, or `~/.config`.
        state: what `XDG_STATE_HOME` names, or `~/.local/state`.
        cache: what `XDG_CACHE_HOME` names, or `~/.cache`.
        runtime: what `XDG_RUNTIME_DIR` names, or `/run/user/UID`.
    """
    return Layout(
        unit=config / "systemd/user" / UNIT,
        configuration=config / "vllmd/vllmd.toml",
        data=(state / "vllmd", cache / "vllmd"),
        address=f"unix:{runtime}/vllmd/admin.sock",
        systemctl=("systemctl", "--user"),
        user=True,
    )
