"""The files for systemd, with the paths of an environment in the place of those that they are written with."""

from __future__ import annotations

import pathlib
import re

_PACKAGED = pathlib.Path(__file__).parent / "files"
_CHECKOUT = pathlib.Path(__file__).parents[2] / "systemd"
HOST = "vllmd.service"
USER = "vllmd-user.service"
SYSUSERS = "vllmd.sysusers"
TMPFILES = "vllmd.tmpfiles"
_WRITTEN_WITH = re.compile(r"(?<==)(?:/opt/vllmd|%h/\.local/share/vllmd)/bin(?=/)")
_PLAIN = re.compile(r"/[A-Za-z0-9._+@/-]*")


def text(name: str) -> str:
    """Read one as it is written: from the installed package, or from the checkout that this runs from."""
    return (_PACKAGED if _PACKAGED.is_dir() else _CHECKOUT).joinpath(name).read_text()


def unit(name: str, programs: pathlib.Path) -> str:
    """Read a unit, for an environment whose programs are in a directory.

    Raises:
        ValueError: systemd would read that path as something else.
    """
    if not _PLAIN.fullmatch(str(programs)):
        raise ValueError(f"{programs} has characters that mean something to systemd, or separate words")
    return _WRITTEN_WITH.sub(str(programs), text(name))
