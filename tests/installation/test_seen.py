from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from vllmd.installation import layout, seen, units
from vllmd.installation.layout import Layout


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A host below a directory, whose service runs and is enabled."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(
        f"#!/bin/sh\ncase $1 in is-active) echo active;; is-enabled) echo enabled;; show) echo {os.getpid()};; esac\n"
    )
    (tmp_path / "bin/systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return layout.of_host(tmp_path)


def test_a_bare_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without systemctl nothing is enabled, nor runs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = seen.look(layout.of_host(tmp_path), None)

    assert (found.unit, found.sysusers, found.tmpfiles, found.packaged) == (None, None, None, None)
    assert (found.configured, found.active, found.enabled, found.masked, found.data) == (False, False, False, False, ())
    assert found.programs == pathlib.Path(sys.prefix) / "bin"


def test_what_there_is(host: Layout) -> None:
    """Files, their texts, and what the daemon keeps."""
    for path, text in ((host.unit, "[Unit]"), (host.packaged[0], ""), (host.data[1] / "hub/model", "x" * 1000)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert host.sysusers is not None
    host.sysusers.parent.mkdir()
    host.sysusers.write_text(units.text(units.SYSUSERS))
    found, measured = seen.look(host, None), seen.look(host, None, removes=True)

    assert (found.unit, found.sysusers, found.packaged) == ("[Unit]", units.text(units.SYSUSERS), host.packaged[0])
    assert (found.active, found.enabled) == (True, True)
    assert found.other is None
    assert (found.data, measured.data) == (((host.data[1], 0),), ((host.data[1], 1000),))


def test_a_daemon_of_another_environment(host: Layout) -> None:
    """It is known by its interpreter, as the kernel tells it."""
    with subprocess.Popen([shutil.which("sleep") or "", "600"]) as daemon:
        systemctl = host.unit.parents[3] / "bin/systemctl"
        systemctl.write_text(systemctl.read_text().replace(str(os.getpid()), str(daemon.pid)))
        found = seen.look(host, None)
        daemon.kill()

    assert found.other == pathlib.Path(shutil.which("sleep") or "").parent


def test_a_masked_unit(host: Layout) -> None:
    """It is a link to nothing."""
    host.unit.parent.mkdir(parents=True)
    host.unit.symlink_to("/dev/null")

    assert seen.look(host, None).masked


@pytest.mark.parametrize(
    ("text", "python", "problems"),
    [
        ('engine_python = "/opt/vllm/bin/python"\n', "/opt/vllm/bin/python", 0),
        ("idle_timeout = 1\n", "", 0),
        ("idle_timout = 1\nx = 2\n", "", 2),
    ],
)
def test_what_the_configuration_says(host: Layout, text: str, python: str, problems: int) -> None:
    """Where, and what is wrong with it."""
    host.configuration.parent.mkdir(parents=True)
    host.configuration.write_text(text)
    found = seen.look(host, None)

    assert found.configured
    assert (found.engine_python, len(found.configuration_problems)) == (python, problems)
    assert found.engine_python_origin == (f"{host.configuration}:1" if python else "")


def test_an_interpreter_that_the_service_can_not_come_to(host: Layout, tmp_path: pathlib.Path) -> None:
    """Whether it is asked for, or stands in the configuration; a user's own service is that user."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "python").touch(mode=0o755)
    user = layout.of_user(tmp_path, tmp_path, tmp_path, tmp_path)

    assert "closed to others" in seen.look(host, closed / "python").engine_unreachable
    assert seen.look(user, closed / "python").engine_unreachable == ""
