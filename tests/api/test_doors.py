from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

import pytest

from vllmd.api.access import Role
from vllmd.api.doors import Door, group_id
from vllmd.errors import NotPossible


def test_groups_are_found_by_name_and_by_number() -> None:
    """A container's group may have no name."""
    own = grp.getgrgid(os.getegid())

    assert group_id(own.gr_name) == own.gr_gid
    assert group_id("4711") == 4711
    with pytest.raises(NotPossible, match="groupadd --system no-such-group") as refused:
        group_id("no-such-group")
    assert refused.value.reason == "NO_SUCH_GROUP"


def test_a_door_is_given_to_its_group(tmp_path: Path) -> None:
    """Before others of the old one could come by it."""
    group = next((one for one in os.getgroups() if one != os.getegid()), 4711 if os.geteuid() == 0 else os.getegid())
    door = Door(path=tmp_path / "s", role=Role.USER, mode=0o660, group=str(group))
    door.private.touch(mode=0o600)
    door.open()
    status = door.private.stat()

    assert status.st_gid == group
    assert stat.S_IMODE(status.st_mode) == 0o660


def test_a_group_that_the_daemon_is_not_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't give anything to it, and says so in words."""

    def refuse(path: Path, uid: int, gid: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)  # tests may run as root, whom nothing is refused
    door = Door(path=tmp_path / "s", role=Role.USER, mode=0o660, group="4711")
    with pytest.raises(NotPossible, match="the daemon's user is not in it") as refused:
        door.open()

    assert refused.value.reason == "NOT_IN_GROUP"
