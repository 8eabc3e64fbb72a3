"""The package, as dpkg handles it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.systemd.machine import UPGRADED
from tests.systemd.unit import IN, run, status_of, unit

CONFIGURATION = pathlib.Path("/etc/vllmd/vllmd.toml")
(PACKAGE,) = (IN / "dist").glob("*.deb")


def dpkg(*arguments: str | pathlib.Path) -> str:
    """Run it; returns what it said."""
    done = run("dpkg", "--force-confold", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def as_before() -> Iterator[None]:
    """Go back to the version of before."""
    configuration = CONFIGURATION.read_text()
    yield
    CONFIGURATION.write_text(configuration)
    dpkg("--force-downgrade", "-i", PACKAGE)


def test_it_said_what_was_missing_when_it_was_installed() -> None:
    """vLLM is no part of it; the service was enabled and not started."""
    log = pathlib.Path("/run/checks/out/install.log").read_text()

    assert "vllmd: not started yet:" in log
    assert "/etc/vllmd/vllmd.toml:5: engine_python: " in log
    assert "correct /etc/vllmd/vllmd.toml, then `systemctl start vllmd`" in log


def test_its_files_are_as_they_were_packed() -> None:
    """And what it brings for shells and people is where they look; the daemon's user can change none of it."""
    verified = run("dpkg", "--verify", "vllmd").stdout.splitlines()
    helped = run("vllmd", "install", "--dry-run")
    writable = run(
        "runuser", "-u", "vllmd", "--", "find", "/opt/vllmd", "/etc/vllmd", "-writable", "-not", "-type", "l"
    )

    assert [line for line in verified if not line.endswith(str(CONFIGURATION))] == []
    assert run("bash", "-c", ". /usr/share/bash-completion/completions/vllmd-cli").returncode == 0
    assert "vllmd is here as a package" in helped.stderr
    assert writable.stdout == ""


@pytest.mark.usefixtures("as_before")
def test_an_upgrade_keeps_running_engines() -> None:
    """In the same process, which dpkg waits for."""
    with unit() as started:
        loaded = started.load(fake_tokens_per_second=50)
        pid, version = started.pid, started.status().host.version
        said = dpkg("-i", IN / "upgrade.deb")
        engine, after = started.engine(loaded.engine.name), started.status().host.version
        *_, last = started.generate(loaded.lease.name, 5)

        assert after == version + UPGRADED
        assert (started.pid, started.show("NRestarts")) == (pid, "0")
        assert (engine.adopted, engine.pid) == (True, loaded.engine.pid)
        assert last.usage.completion_tokens == 5
        assert "goes on with the code of before" not in said
        assert status_of(pid, "Uid").split()[0] != "0"


@pytest.mark.usefixtures("as_before")
def test_an_upgrade_that_can_not_be_is_told_and_ends_nothing() -> None:
    """The configuration is broken: the daemon goes on as it was, and the package is installed all the same."""
    with unit() as started:
        loaded = started.load()
        version = started.status().host.version
        CONFIGURATION.write_text("no_such_setting = 1\n")
        said = dpkg("-i", IN / "upgrade.deb")
        engine = started.engine(loaded.engine.name)

        assert "goes on with the code of before" in said
        assert f"{CONFIGURATION}:1: no_such_setting" in said
        assert started.status().host.version == version
        assert (engine.adopted, engine.pid) == (False, loaded.engine.pid)
