"""The unit of one user, without root and without an account of its own."""

from __future__ import annotations

import pathlib
import signal
from collections.abc import Iterator

import pytest

from tests.systemd.unit import IN, Account, Unit, agreed, run, until

RUNTIME = pathlib.Path("/run/user/1000")
SOMEONE = Account(
    "someone",
    RUNTIME / "vllmd",
    ("runuser", "-u", "someone", "--", "env", f"XDG_RUNTIME_DIR={RUNTIME}", "systemctl", "--user"),
)
DROP_IN = """\
[Service]
ExecStart=
ExecStart=/opt/pip/bin/vllmd --backend fake --simulate 1xL4 --idle-timeout 600 --adoption-timeout 6
WatchdogSec=3
"""


@pytest.fixture
def users() -> Iterator[Unit]:
    """Installed by the README's commands, but for the environment, which is the system's."""
    home = pathlib.Path("/home/someone")
    drop_ins = home / ".config/systemd/user/vllmd.service.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "checks.conf").write_text(DROP_IN)
    (home / ".local/share").mkdir(parents=True)
    (home / ".local/share/vllmd").symlink_to("/opt/pip")
    run("chown", "-R", "someone:", home)
    run("systemctl", "start", "user@1000.service")
    until(lambda: (RUNTIME / "systemd/private").exists(), "the user's manager")
    made = Unit(SOMEONE)
    as_user = SOMEONE.systemctl[:-2]
    installed = agreed(f"sh {IN}/user.sh", *as_user, f"HOME={home}")
    assert installed.returncode == 0, installed.stdout
    assert "Do this? [y/N]" in installed.stdout
    yield made
    made.close()
    run("systemctl", "stop", "user@1000.service")


def test_a_user_has_a_daemon(users: Unit) -> None:
    """It comes back to its engines after a crash, and a stop leaves nothing."""
    unit = "/home/someone/.config/systemd/user/vllmd.service"
    verified = run(*SOMEONE.systemctl[:-2], "systemd-analyze", "--user", "verify", unit)
    enabled = users.systemctl("is-enabled").stdout.strip()
    loaded = users.load()
    group = pathlib.Path(f"/proc/{loaded.engine.pid}/cgroup").read_text()
    users.restarted(users.kill(signal.SIGKILL))
    engine = users.engine(loaded.engine.name)
    users.systemctl("stop")

    assert enabled == "enabled"
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    assert "user@1000.service" in group
    assert f"/engine-{loaded.engine.name.removeprefix('engines/')}" in group
    assert (engine.adopted, engine.pid) == (True, loaded.engine.pid)
    assert users.left() == []
