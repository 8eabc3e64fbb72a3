from __future__ import annotations

import os
import pathlib

import pytest

from vllmd.worker import leftovers

SHM = pathlib.Path("/dev/shm")
NOBODY = 65534


def test_shared_memory_and_semaphores_of_the_engine_are_unlinked(engine_id: str) -> None:
    """They are found by name alone: no process is left that could tell of them."""
    mine = [SHM / f"psm_vllmd-{engine_id}_0123", SHM / f"sem.mp-vllmd-{engine_id}_-abc"]
    for path in mine:
        path.write_bytes(b"x")

    assert leftovers.remove_shared_memory(engine_id) == [str(path) for path in mine]
    assert not any(path.exists() for path in mine)


@pytest.mark.parametrize(
    "name",
    [
        "psm_0123abcd",
        "psm_vllmd-{0}x_0123",
        "psm_vllmd-x{0}_0123",
        "sem.mp-vllmd-{0}x_-abc",
        "sem.mp-vllmd-{0}-1_-abc",
        "sem.mp-0123",
        "{0}",
    ],
)
def test_what_belongs_to_others_stays(tmp_path: pathlib.Path, name: str) -> None:
    """An engine whose id begins or ends like ours, and everybody who is no engine, keeps its memory."""
    other = tmp_path / name.format("e-1")
    other.touch()

    assert leftovers.remove_shared_memory("e-1", tmp_path) == []
    assert other.exists()


def test_what_is_no_plain_file_of_ours_stays_and_the_rest_goes(tmp_path: pathlib.Path) -> None:
    """Anybody may make anything of our names there; it neither goes nor keeps the rest from going."""
    (tmp_path / "psm_vllmd-e-1_0").mkdir()
    (tmp_path / "psm_vllmd-e-1_1").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "sem.mp-vllmd-e-1_-0")
    mine = [tmp_path / "psm_vllmd-e-1_9", tmp_path / "sem.mp-vllmd-e-1_-9"]
    for path in mine:
        path.touch()
    removed = leftovers.remove_shared_memory("e-1", tmp_path)

    assert removed == [str(path) for path in mine]
    assert sorted(os.listdir(tmp_path)) == ["psm_vllmd-e-1_0", "psm_vllmd-e-1_1", "sem.mp-vllmd-e-1_-0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file another user's")
def test_file_of_another_user_stays_and_the_rest_goes(tmp_path: pathlib.Path) -> None:
    """Its name proves nothing: root could remove it, and must not."""
    theirs, mine = tmp_path / "psm_vllmd-e-1_0", tmp_path / "psm_vllmd-e-1_1"
    theirs.touch()
    mine.touch()
    os.chown(theirs, NOBODY, -1)

    assert leftovers.remove_shared_memory("e-1", tmp_path) == [str(mine)]
    assert theirs.exists()
    assert not mine.exists()


def test_engine_without_leftovers_has_none(tmp_path: pathlib.Path) -> None:
    """Most engines clean up by themselves."""
    assert leftovers.remove_shared_memory("e-1", tmp_path) == []


def test_directory_goes_with_all_in_it(tmp_path: pathlib.Path) -> None:
    """Sockets and temporary files are in it; a second removal finds nothing to do."""
    directory = tmp_path / "e-1"
    (directory / "tmp" / "deep").mkdir(parents=True)
    (directory / "tmp" / "deep" / "file").touch()
    leftovers.remove_directory(directory)
    leftovers.remove_directory(directory)

    assert list(tmp_path.iterdir()) == []


def test_directory_that_can_not_be_removed_is_an_error(tmp_path: pathlib.Path) -> None:
    """It is not passed over in silence: a file where a directory should be stays."""
    path = tmp_path / "e-1"
    path.touch()

    with pytest.raises(NotADirectoryError):
        leftovers.remove_directory(path)
