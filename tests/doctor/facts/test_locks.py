from __future__ import annotations

import fcntl
import os
from pathlib import Path

from vllmd.doctor.facts import locks

TABLE = """\
1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF
1: -> FLOCK  ADVISORY  WRITE 4712 fe:00:1234 0 EOF
2: FLOCK  ADVISORY  READ 4713 fe:00:1235 0 EOF
3: POSIX  ADVISORY  WRITE 4714 fe:00:1236 0 EOF
4: OFDLCK ADVISORY  READ  -1 00:06:1237 0 EOF
"""


def test_only_those_who_hold_one_alone_count() -> None:
    """Not who waits, who shares, or who has a lock of another kind."""
    assert list(locks.held(TABLE)) == [(4711, os.makedev(0xFE, 0), 1234)]


def test_a_lock_that_somebody_holds(tmp_path: Path) -> None:
    """The kernel says who it is, and the lock is not touched for that."""
    path = tmp_path / "x.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        held = locks.holder(path, locks.table() or "")
        fcntl.flock(file, fcntl.LOCK_UN)

        assert held == os.getpid()
        assert locks.holder(path, locks.table() or "") is None


def test_a_lock_that_is_not_there(tmp_path: Path) -> None:
    """Nobody holds it."""
    assert locks.holder(tmp_path / "absent", TABLE) is None


def test_another_device_in_the_table(tmp_path: Path) -> None:
    """Then the pid that stands in the file has to fit: a file elsewhere may have the same number."""
    path = tmp_path / "x.lock"
    path.write_text("4711\n")
    table = f"1: FLOCK  ADVISORY  WRITE 4711 ff:7f:{path.stat().st_ino} 0 EOF\n"

    assert locks.holder(path, table) == 4711

    path.write_text("")

    assert locks.holder(path, table) is None


def test_what_stands_in_a_lock(tmp_path: Path) -> None:
    """A pid, or nothing that is one."""
    path = tmp_path / "x.lock"
    path.write_text("17\n")
    assert locks.written(path) == 17

    path.write_text("gone\n")
    assert locks.written(path) is None
    assert locks.written(tmp_path / "absent") is None
