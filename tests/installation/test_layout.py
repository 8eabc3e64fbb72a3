from __future__ import annotations

import pathlib

from vllmd.installation import layout


def test_a_hosts_files_are_where_its_administrator_puts_them() -> None:
    """Not in /usr, which is for packages; those count less in systemd, and are looked for."""
    host = layout.of_host()

    assert str(host.unit) == "/etc/systemd/system/vllmd.service"
    assert host.packaged
    assert all(path.parts[1] in ("usr", "lib") for path in host.packaged)
    assert (host.user, host.systemctl) == (False, ("systemctl",))


def test_a_users_files_are_where_the_xdg_directories_are() -> None:
    """And nothing of the host's is touched."""
    user = layout.of_user(*map(pathlib.Path, ("/h/config", "/h/state", "/h/cache", "/r")))

    assert str(user.unit) == "/h/config/systemd/user/vllmd.service"
    assert str(user.configuration) == "/h/config/vllmd/vllmd.toml"
    assert user.data == (pathlib.Path("/h/state/vllmd"), pathlib.Path("/h/cache/vllmd"))
    assert (user.sysusers, user.tmpfiles, user.packaged) == (None, None, ())
    assert (user.user, user.systemctl) == (True, ("systemctl", "--user"))
