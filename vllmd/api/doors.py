"""The Unix sockets that the daemon serves: each has a role, and the file system says who may come by it."""

from __future__ import annotations

import dataclasses
import grp
import os
import pathlib

from vllmd.api.access import Role
from vllmd.errors import NotPossible


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One socket."""

    path: pathlib.Path
    role: Role
    mode: int
    group: str | None = None
    """Whose it is besides the daemon's user; that one's own group if it is `None`."""
    remedy: str = ""
    """What somebody does who is denied here, as a sentence."""

    @property
    def private(self) -> pathlib.Path:
        """Where it is bound, before it has its mode and goes where people look for it."""
        return self.path.with_name(f".{self.path.name}.{os.getpid()}")

    def open(self) -> None:
        """Give what is bound its group and then its mode, so that at no time anybody else can connect.

        Raises:
            NotPossible: the daemon can't give it to that group.
        """
        if self.group is not None:
            gid = group_id(self.group)
            try:
                os.chown(self.private, -1, gid)
            except PermissionError:
                message = f"{self.path} can't be given to the group {self.group}: the daemon's user is not in it."
                raise NotPossible("NOT_IN_GROUP", message, group=self.group, socket=self.path) from None
        self.private.chmod(self.mode)


def group_id(name: str) -> int:
    """Find a group by its name, or by its number.

    Raises:
        NotPossible: there is none.
    """
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        message = f"There is no group {name} on this host: make it, as by `groupadd --system {name}`."
        raise NotPossible("NO_SUCH_GROUP", message, group=name) from None
