from __future__ import annotations

import os
import pathlib
import stat

import pytest

from vllmd.installation.steps import Failed, Keep, Remove, Run, Write


def test_a_file_is_written_whole_for_all_to_read(tmp_path: pathlib.Path) -> None:
    """With the directories that lead to it, whatever the shell's umask."""
    path = tmp_path / "etc" / "vllmd" / "vllmd.toml"
    before = os.umask(0o077)
    try:
        Write(path, "x = 1\n", None).do()
        Write(path, "x = 2\n", "x = 1\n").do()
    finally:
        os.umask(before)

    assert path.read_text() == "x = 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert [one.name for one in path.parent.iterdir()] == ["vllmd.toml"]


def test_a_file_that_can_not_be_written_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """Where a directory is in its place."""
    (tmp_path / "unit").mkdir()

    with pytest.raises(OSError, match="directory"):
        Write(tmp_path / "unit", "x", None).do()
    assert [one.name for one in tmp_path.iterdir()] == ["unit"]


def test_files_and_directories_go_and_links_are_not_followed(tmp_path: pathlib.Path) -> None:
    """What has gone already is no error."""
    kept = tmp_path / "kept"
    (tmp_path / "data" / "below").mkdir(parents=True)
    kept.mkdir()
    (tmp_path / "link").symlink_to(kept)
    for name in ("data", "link", "absent"):
        Remove(tmp_path / name).do()

    assert list(tmp_path.iterdir()) == [kept]


def test_a_command_that_fails_says_why() -> None:
    """In its own words, or by its status."""
    Run(("true",)).do()
    Keep("x", "y").do()

    with pytest.raises(Failed, match="no such thing"):
        Run(("sh", "-c", "echo no such thing >&2; exit 1")).do()
    with pytest.raises(Failed, match="ended with status 3"):
        Run(("sh", "-c", "exit 3")).do()
