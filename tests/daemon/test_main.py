from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.host.running import vllmd
from vllmd import __version__
from vllmd.daemon.main import main


@pytest.mark.parametrize(("option", "told"), [("--help", "exit status:"), ("--version", f"vllmd {__version__}")])
def test_help_and_version_answer_at_once(option: str, told: str) -> None:
    """They need none of the daemon's heavier parts."""
    start = time.monotonic()
    answer = vllmd(option)

    assert time.monotonic() - start < 5.0
    assert answer.returncode == 0
    assert told in answer.stdout
    assert answer.stderr == ""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--socket-mode 9", "argument --socket-mode: invalid octal value: '9'"),
        ("--socket-mode 1777", "--socket-mode"),
        ("--idle-timeout soon", "--idle-timeout"),
        ("--idle-timeout -1", "--idle-timeout"),
        ("--load-timeout inf", "--load-timeout"),
        ("--lease-ttl 0", "--lease-ttl"),
        ("--backend llama", "--backend"),
        ("--log-level loud", "--log-level"),
        ("--no-such-option", "--no-such-option"),
        ("extra", "extra"),
        ("--config /nonexistent/vllmd.toml", "vllmd: error: /nonexistent/vllmd.toml: can't be read: No such file"),
        ("--engine-python bin/python --simulate 1xL4 --backend vllm", "--simulate: only the fake engine"),
    ],
)
def test_misuse_is_exit_status_2(line: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Which option is wrong is said on standard error, below the usage."""
    with pytest.raises(SystemExit) as left:
        main(line.split())
    printed = capsys.readouterr()

    assert left.value.code == 2
    assert told in printed.err
    assert printed.out == ""


def test_a_runtime_directory_that_is_too_long(tmp_path: Path) -> None:
    """The daemon does not start, and says what is too long for what, and what to do."""
    answer = vllmd("--runtime-dir", str(tmp_path / ("x" * 100)), "--backend", "fake")

    assert answer.returncode == 2
    assert "bytes too long" in answer.stderr
    assert "Choose a shorter --runtime-dir" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_address_that_anybody_could_reach_is_refused(runtime: Path) -> None:
    """It is refused before anything is made."""
    answer = vllmd("--runtime-dir", str(runtime / "r"), "--listen", "0.0.0.0:8765")

    assert answer.returncode == 2
    assert "LISTEN_REFUSED" in answer.stderr
    assert not (runtime / "r").exists()


def test_an_interpreter_that_is_not_there_is_told_at_the_start(runtime: Path) -> None:
    """Not at the first load, when somebody waits for it."""
    answer = vllmd("--runtime-dir", str(runtime / "r"), "--engine-python", "/no/such/python")

    assert answer.returncode == 2
    assert "NO_ENGINE_PYTHON" in answer.stderr
    assert not (runtime / "r").exists()


def test_all_that_is_wrong_is_told_at_once(runtime: Path) -> None:
    """By the status after which the unit does not start it again."""
    answer = vllmd(
        "--runtime-dir", str(runtime / "r"), "--engine-python", "/no/such/python", "--listen", "0.0.0.0:8765"
    )

    assert answer.returncode == 2
    assert "LISTEN_REFUSED" in answer.stderr
    assert "NO_ENGINE_PYTHON" in answer.stderr


def test_a_daemon_does_not_start_with_a_broken_configuration(runtime: Path) -> None:
    """Every mistake is told, whether it is to be checked only or not; nothing is made."""
    file = runtime / "vllmd.toml"
    file.write_text('idle_timout = 1\nbackend = "fak"\n')
    line = ("--config", str(file), "--runtime-dir", str(runtime / "r"))
    answers = [vllmd(*line), vllmd(*line, "--check")]

    assert [answer.returncode for answer in answers] == [2, 2]
    assert answers[0].stderr == answers[1].stderr
    assert answers[0].stderr.splitlines() == [
        f"vllmd: error: {file}:1: idle_timout: there is no such setting; the nearest is idle_timeout",
        f'vllmd: error: {file}:2: backend: must be one of vllm, fake, and is "fak"; the nearest is fake',
    ]
    assert not (runtime / "r").exists()


def test_check_heeds_the_file(runtime: Path) -> None:
    """It says what a daemon with these options would do, which is how an upgrade tries the new program."""
    file = runtime / "vllmd.toml"
    file.write_text('backend = "fake"\n')
    right = vllmd("--config", str(file), "--check")
    file.write_text('engine_python = "/no/such/python"\n')
    wrong = vllmd("--config", str(file), "--check")

    assert (right.returncode, right.stdout) == (0, "vllmd can start\n")
    assert wrong.returncode == 2
    assert "NO_ENGINE_PYTHON" in wrong.stderr


def test_config_is_a_command_of_its_own() -> None:
    """With a help of its own; the daemon is what runs without one."""
    answer = vllmd("config", "--help")

    assert answer.returncode == 0
    assert "usage: vllmd config" in answer.stdout
