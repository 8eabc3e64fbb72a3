from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from vllmd.daemon import install_command
from vllmd.installation import layout, seen
from vllmd.installation.seen import Seen

PROGRAM = [sys.executable, "-m", "vllmd"]


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> layout.Layout:
    """A host below a directory, where nothing is installed; what its systemctl was told stands in `told`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "systemd-sysusers", "systemd-tmpfiles"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/told\ntest ! -e {tmp_path}/fail\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    place = layout.of_host(tmp_path)
    monkeypatch.setattr(layout, "of_host", lambda: place)

    def look(where: layout.Layout, engine_python: pathlib.Path | None, **_: Any) -> Seen:
        text = where.unit.read_text() if where.unit.exists() else None
        return Seen(root=True, booted=True, unit=text, programs=pathlib.Path("/opt/vllmd/bin"))

    monkeypatch.setattr(seen, "look", look)
    return place


def told(tmp_path: pathlib.Path) -> list[str]:
    """The commands that were run so far."""
    path = tmp_path / "told"
    return path.read_text().splitlines() if path.exists() else []


def test_a_dry_run_says_and_does_nothing(
    host: layout.Layout, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each step in a line."""
    assert install_command.main("install", ["--dry-run"]) == 0
    assert f"create   {host.unit}\n" in capsys.readouterr().out
    assert (host.unit.exists(), told(tmp_path)) == (False, [])


def test_nothing_is_done_without_somebodys_word(
    host: layout.Layout, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that runs it has to say --yes."""
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert install_command.main("install", []) == 2
    assert "--yes" in capsys.readouterr().err
    assert (host.unit.exists(), told(tmp_path)) == (False, [])


def test_it_is_installed_and_taken_off(
    host: layout.Layout, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it has said is what it does, and then it says what is left to people."""
    assert install_command.main("install", ["--yes", "--engine-python", sys.executable]) == 0
    assert f'engine_python = "{sys.executable}"' in host.configuration.read_text()
    assert [line.split()[:2] for line in told(tmp_path)][-3:] == [
        ["systemctl", "daemon-reload"], ["systemctl", "enable"], ["systemctl", "start"],
    ]  # fmt: skip
    assert "usermod -aG vllmd-admin NAME" in capsys.readouterr().out
    assert install_command.main("uninstall", ["--yes"]) == 0
    assert (host.unit.exists(), host.configuration.exists()) == (False, True)
    assert "systemctl disable --now vllmd.service" in told(tmp_path)


def test_a_step_that_fails_is_named_and_the_rest_not_done(
    host: layout.Layout, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command goes on from there."""
    (tmp_path / "fail").touch()

    assert install_command.main("install", ["--yes"]) == 1
    assert "run      systemd-sysusers" in capsys.readouterr().err
    assert len(told(tmp_path)) == 1


def test_an_interpreter_that_is_none_is_refused(
    host: layout.Layout, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is looked at."""
    with pytest.raises(SystemExit) as ended:
        install_command.main("install", ["--engine-python", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert "is no program that can be run" in capsys.readouterr().err


def test_where_it_can_not_be_installed_it_says_why() -> None:
    """The real thing, in the environment of the tests, which is nobody's service."""
    done = subprocess.run([*PROGRAM, "install", "--user", "--no-start"], capture_output=True, text=True, check=False)
    if os.geteuid() == 0:
        assert (done.returncode, done.stderr) == (2, "vllmd install: root's is the host's: without --user, please.\n")
    else:
        assert (done.returncode, "create" in done.stdout or "keep" in done.stdout) == (2, True)
    helped = subprocess.run([*PROGRAM, "uninstall", "--help"], capture_output=True, text=True, check=True)
    assert "examples:" in helped.stdout
