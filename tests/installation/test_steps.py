from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import threading

import pytest

from tests.fakes.fake_daemon import FakeDaemon
from vllmd.installation.steps import Failed, Keep, Remove, Run, Upgrade, Write


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


def test_a_disk_that_is_mounted_there_is_not_emptied() -> None:
    """Nor anything beside it."""
    with pytest.raises(Failed, match=r"^/proc is a mount point"):
        Remove(pathlib.Path("/proc")).do()


@pytest.mark.parametrize("refused", [False, True])
def test_an_upgrade_is_done_when_the_new_code_answers(tmp_path: pathlib.Path, refused: bool) -> None:
    """One that goes on as it was, with what made it refuse in its log, is a failure."""
    with FakeDaemon(tmp_path) as daemon:
        daemon.status.host.start_time.FromSeconds(1)
        told = tmp_path / "told"
        os.mkfifo(told)

        def execute() -> None:
            told.read_text()
            daemon.status.host.start_time.FromSeconds(1 if refused else 2)

        thread = threading.Thread(target=execute)
        thread.start()
        upgrade = Upgrade(Run(("sh", "-c", f"echo now >{told}")), daemon.target, seconds=0.5 if refused else 30)
        with pytest.raises(Failed, match="code of before") if refused else contextlib.nullcontext():
            upgrade.do()
        thread.join()

    assert list(upgrade.lines()) == [f"run      sh -c echo now >{told}"]


def test_a_command_that_fails_says_why() -> None:
    """In its own words, or by its status."""
    Run(("true",)).do()
    Keep("x", "y").do()

    with pytest.raises(Failed, match="no such thing"):
        Run(("sh", "-c", "echo no such thing >&2; exit 1")).do()
    with pytest.raises(Failed, match="ended with status 3"):
        Run(("sh", "-c", "exit 3")).do()
