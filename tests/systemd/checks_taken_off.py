"""How a host gets rid of it: of the package, and of an installation of pip's, which it gets in between."""

from __future__ import annotations

import pathlib
import pwd

from tests.systemd.checks_package import PACKAGE
from tests.systemd.unit import BY_PIP, IN, Unit, agreed, run, unit

PLACES = [pathlib.Path(f"/{place}/vllmd") for place in ("etc", "var/lib", "var/cache", "var/log")]


def test_a_package_that_is_removed_leaves_no_process() -> None:
    """A purge leaves no file either, and the user's account, as files may be theirs."""
    with unit() as started:
        started.load(fake_ignore_sigterm=True)
        removed = run("dpkg", "--remove", "vllmd")
        left = started.left()
        kept = [place for place in PLACES if place.exists()]
        again = run("dpkg", "--force-confold", "--install", PACKAGE)
        purged = run("dpkg", "--purge", "vllmd")

        assert removed.returncode == purged.returncode == 0, removed.stderr + purged.stderr
        assert again.returncode == 0, again.stdout + again.stderr
        assert left == []
        assert kept == PLACES
        assert [place for place in (*PLACES, pathlib.Path("/opt/vllmd")) if place.exists()] == []
        assert pwd.getpwnam("vllmd").pw_dir == "/var/lib/vllmd"


def test_an_installation_of_pips_is_upgraded_and_taken_off() -> None:
    """By the README's commands; who does it once more has the daemon execute the new code, and its engines stay."""
    for environment in ("/opt/vllmd", "/opt/vllm"):
        pathlib.Path(environment).symlink_to("/opt/pip")
    installed = agreed(f"sh {IN}/pip.sh")
    state = run("systemctl", "is-active", "vllmd").stdout.strip()
    run("systemctl", "stop", "vllmd")
    with unit(programs=BY_PIP) as started:
        loaded, pid, before = started.load(), started.pid, started.status().host.start_time
        again = run(f"{BY_PIP}/vllmd", "install", "--yes")
        engine, after = started.engine(loaded.engine.name), started.status().host.start_time
        adopted = started.engine(loaded.engine.name).adopted
        removed = agreed(f"{BY_PIP}/vllmd uninstall --purge")
        left, there = started.left(), [place for place in PLACES if place.exists()]

        assert installed.returncode == 0, installed.stdout
        assert state == "active"
        assert again.returncode == 0, again.stderr
        assert after != before
        assert "keep     /etc/systemd/system/vllmd.service" in again.stdout
        assert (started.pid in (0, pid), engine.pid, adopted) == (True, loaded.engine.pid, True)
        assert removed.returncode == 0, removed.stdout
        assert (left, there) == ([], [])
        assert Unit().show("LoadState") == "not-found"
