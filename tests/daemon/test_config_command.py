from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.host.running import vllmd
from vllmd.config import Settings
from vllmd.daemon.config_command import main

BROKEN = sorted((Path(__file__).parents[1] / "data" / "config" / "broken").glob("*.toml"))
_EXPECTED = re.compile(rb"# (\d+): (.*)")


def expected(path: Path) -> list[str]:
    """What is to be told of a broken file: its first lines say so, as `# LINE: KEY: TEXT`."""
    lines = []
    for line in path.read_bytes().splitlines():
        if (found := _EXPECTED.fullmatch(line)) is None:
            break
        lines.append(f"{path}:{found[1].decode()}: {found[2].decode()}")
    return lines


def test_there_are_many_ways_to_break_a_file() -> None:
    """Each of these was made by hand."""
    assert len(BROKEN) >= 30
    assert all(expected(path) for path in BROKEN)


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_file_is_told_with_line_and_key(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is wrong and nothing else, one line each; the exit status is 1."""
    status = main(["check", "--config", str(path), "--runtime-dir", "/run/vllmd"])
    printed = capsys.readouterr()
    told = printed.err.splitlines()

    assert (status, printed.out) == (1, "")
    assert len(told) == len(expected(path))
    for line, beginning in zip(told, expected(path), strict=True):
        assert line.startswith(beginning), line


def test_a_configuration_that_is_right_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the file that was looked at, or that there is none."""
    path = tmp_path / "vllmd.toml"
    path.write_text('backend = "fake"\n')
    statuses = [main(["check", "--config", str(path)]), main(["check", "--backend", "fake"])]

    assert statuses == [0, 0]
    assert capsys.readouterr().out.splitlines() == [
        f"{path} is right",
        "there is no /nonexistent/vllmd/vllmd.toml; without it the configuration is right",
    ]


def test_what_only_the_daemon_would_find_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interpreter that is not there, an address that anybody could reach: all of them, and flags by name."""
    path = tmp_path / "vllmd.toml"
    path.write_text('engine_python = "/no/such/python"\nlisten = "0.0.0.0:1"\n')
    status = main(["check", "--config", str(path), "--runtime-dir", "/" + "x" * 100])
    told = [line.partition(": ")[0] for line in capsys.readouterr().err.splitlines()]

    assert status == 1
    assert told == ["--runtime-dir", f"{path}:2", f"{path}:1"]


def test_show_prints_what_counts_with_its_origins() -> None:
    """As a daemon with these options would see it; from the program itself."""
    answer = vllmd("config", "show", "--origin", "--idle-timeout", "600", "--allow-engine-arg", "hf_overrides")

    assert (answer.returncode, answer.stderr) == (0, "")
    assert "idle_timeout = 600  # --idle-timeout\n" in answer.stdout
    assert tomllib.loads(answer.stdout) == {"idle_timeout": 600, "allowed_engine_args": ["hf_overrides"]}


def test_show_of_a_broken_configuration_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to show."""
    path = tmp_path / "vllmd.toml"
    path.write_text("idle_timout = 1\n")
    status = main(["show", "--config", str(path)])
    printed = capsys.readouterr()

    assert (status, printed.out) == (1, "")
    assert printed.err == f"{path}:1: idle_timout: there is no such setting; the nearest is idle_timeout\n"


def test_show_of_all_defaults_has_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a file to begin with."""
    status = main(["show", "--defaults"])
    shown = capsys.readouterr().out

    assert status == 0
    assert [name for name in Settings.model_fields if not re.search(rf"(?m)^#\[?{name}\b", shown)] == []


@pytest.mark.parametrize("line", [[], ["shew"], ["show", "--all"], ["check", "file"]])
def test_misuse_is_exit_status_2(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With the usage."""
    with pytest.raises(SystemExit) as left:
        main(line)

    assert left.value.code == 2
    assert "usage: vllmd config" in capsys.readouterr().err
