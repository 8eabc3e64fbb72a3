from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from vllmd.daemon.claim import check_socket, claim, claimed, make_private
from vllmd.errors import NotPossible


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """Who tries is told who serves there already."""
    held = claim(tmp_path / "s")
    with pytest.raises(NotPossible, match=f"pid {os.getpid()}") as refused:
        claim(tmp_path / "s")
    os.close(held)

    assert refused.value.reason == "ALREADY_RUNNING"
    assert refused.value.metadata["pid"] == str(os.getpid())


@pytest.mark.parametrize("unlinked", [True, False])
def test_a_lock_can_be_taken_again_after_its_holder(tmp_path: Path, unlinked: bool) -> None:
    """Neither an end in good order nor a crash leaves anything in the way."""
    first = claim(tmp_path / "s")
    if unlinked:
        (tmp_path / "s.lock").unlink()
    os.close(first)
    second = claim(tmp_path / "s")
    content = (tmp_path / "s.lock").read_text()
    os.close(second)

    assert content == f"{os.getpid()}\n"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path, exists: bool) -> None:
    """The socket may be in a directory of everybody's; what a planted link points to is neither emptied nor made."""
    precious = tmp_path / "precious"
    if exists:
        precious.write_text("data")
    (tmp_path / "s.lock").symlink_to(precious)

    with pytest.raises(OSError, match="symbolic link"):
        claim(tmp_path / "s")
    assert precious.exists() == exists
    assert not exists or precious.read_text() == "data"


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path: Path) -> None:
    """However starts and ends are interleaved, there is never more than one daemon."""
    inside = threading.Semaphore(1)
    overlaps = []
    turns = []

    def run_daemons() -> None:
        for _ in range(100):
            try:
                held = claim(tmp_path / "s")
            except NotPossible:
                continue
            turns.append(1)
            if not inside.acquire(blocking=False):
                overlaps.append(1)
                continue
            inside.release()
            (tmp_path / "s.lock").unlink()
            os.close(held)

    threads = [threading.Thread(target=run_daemons) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert overlaps == []
    assert turns


def test_a_private_directory_is_made(tmp_path: Path) -> None:
    """Nobody else may look into it, and it may be there already."""
    directory = tmp_path / "a" / "b"
    make_private(directory)
    make_private(directory)

    assert directory.stat().st_mode & 0o777 == 0o700


def test_the_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Whoever owns it could put anything there."""
    directory = Path("/")
    if os.geteuid() == 0:
        directory = tmp_path / "theirs"
        directory.mkdir()
        os.chown(directory, 12345, -1)

    with pytest.raises(NotPossible, match="not to us") as refused:
        make_private(directory)
    assert refused.value.reason == "NOT_OURS"


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever can write to it can put there what the daemon trusts; it is not made private behind their back."""
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(mode)

    with pytest.raises(NotPossible, match="Others can write") as refused:
        make_private(directory)
    assert refused.value.reason == "NOT_OURS"
    assert directory.stat().st_mode & 0o7777 == mode


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    """Whoever made it says where the daemon writes, though the directory behind it is this user's."""
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "planted").symlink_to(tmp_path / "ours")

    with pytest.raises(NotPossible, match="is not a directory") as refused:
        make_private(tmp_path / "planted")
    assert refused.value.reason == "NOT_OURS"


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    """A path that was mistyped may be somebody's file; a socket that a crash left is in nobody's way."""
    (tmp_path / "notes").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    check_socket(tmp_path / "left")
    check_socket(tmp_path / "new")

    for name in ("notes", "link"):
        with pytest.raises(NotPossible, match="is no socket"):
            check_socket(tmp_path / name)


def test_a_claim_ends_without_a_trace(tmp_path: Path) -> None:
    """Neither the lock nor its file stays."""
    with claimed(tmp_path / "s"), pytest.raises(NotPossible), claimed(tmp_path / "s"):
        pass

    assert list(tmp_path.iterdir()) == []
    os.close(claim(tmp_path / "s"))
