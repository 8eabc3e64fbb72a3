from __future__ import annotations

import errno
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import IO

import pytest

from vllmd.engines import logs


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """Where the log is."""
    return tmp_path / "engine.log"


@pytest.fixture
def writer(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """The tree's descriptor: opened for appending, once, and kept."""
    with open(path, "ab", buffering=0) as file:
        yield file


def test_tail_is_the_last_lines(path: pathlib.Path) -> None:
    """In their order, and all of them if there are fewer."""
    path.write_text("a\nb\nc\n")

    assert logs.tail(path, 2) == ["b", "c"]
    assert logs.tail(path, 9) == ["a", "b", "c"]
    assert logs.tail(path, 0) == []


def test_tail_takes_each_state_of_a_progress_bar_for_a_line(path: pathlib.Path) -> None:
    """A bar redraws itself with a bare carriage return; empty lines say nothing."""
    path.write_bytes(b"start\n\rshards:   0%\rshards:  50%\rshards: 100%\r\n\nend\r\n")

    assert logs.tail(path, 9) == ["start", "shards:   0%", "shards:  50%", "shards: 100%", "end"]


def test_tail_shows_a_line_still_being_written(path: pathlib.Path) -> None:
    """What a process said last before it died may have no end."""
    path.write_text("a\nhalf")

    assert logs.tail(path, 1) == ["half"]


def test_tail_of_a_large_log_reads_only_its_end(path: pathlib.Path) -> None:
    """And what is no UTF-8 is shown as well as can be."""
    with path.open("wb") as file:
        file.seek(1 << 30)
        file.write(b"\nlast \xff\n")

    assert logs.tail(path, 1) == ["last \ufffd"]


def test_log_that_is_not_there_has_no_lines(path: pathlib.Path) -> None:
    """An engine's directory may go at any moment."""
    logs.bound(path, 10)

    assert logs.tail(path, 5) == []
    assert logs.Reader(path).lines() == []
    assert logs.end_offset(path) == 0


def test_reader_gets_each_whole_line_once(path: pathlib.Path, writer: IO[bytes]) -> None:
    """A line that is not whole yet comes when it is."""
    reader = logs.Reader(path)
    writer.write(b"a\nhal")
    first = reader.lines()
    nothing = reader.lines()
    writer.write(b"f\nb\n")

    assert [first, nothing, reader.lines()] == [["a"], [], ["half", "b"]]


def test_line_without_end_is_not_kept_whole(path: pathlib.Path, writer: IO[bytes]) -> None:
    """A process that writes and never ends a line fills the disk at most, not the daemon's memory."""
    reader = logs.Reader(path)
    for _ in range(8):
        writer.write(b"x" * logs._TAIL_BYTES)
        assert reader.lines() == []
    writer.write(b"end\nnext\n")
    long, following = reader.lines()

    assert len(long) <= logs._TAIL_BYTES + len("end")
    assert long.endswith("xend")
    assert following == "next"


def test_reader_that_begins_at_the_end_gets_what_is_new(path: pathlib.Path, writer: IO[bytes]) -> None:
    """Following starts where the tail ended."""
    writer.write(b"old\n")
    reader = logs.Reader(path, logs.end_offset(path))
    writer.write(b"new\n")

    assert reader.lines() == ["new"]


def test_small_log_is_left_alone(path: pathlib.Path, writer: IO[bytes]) -> None:
    """Up to its limit a log is whole."""
    writer.write(b"a\n" * 50)
    logs.bound(path, 100)

    assert path.read_bytes() == b"a\n" * 50


def test_bound_log_keeps_its_newer_half_in_whole_lines(path: pathlib.Path, writer: IO[bytes]) -> None:
    """What goes is the older half, and no line is cut in two."""
    writer.write(b"".join(b"line %03d\n" % number for number in range(100)))
    logs.bound(path, 500)
    kept = path.read_text().splitlines()

    assert path.stat().st_size <= 250
    assert kept == [f"line {number:03}" for number in range(100 - len(kept), 100)]
    assert len(kept) > 20


def test_writers_go_on_at_the_new_end(path: pathlib.Path, writer: IO[bytes]) -> None:
    """They keep their descriptor and leave no hole, as a file that is not appended to would have."""
    writer.write(b"old\n" * 100)
    logs.bound(path, 100)
    writer.write(b"new\n")
    content = path.read_bytes()

    assert content.endswith(b"old\nnew\n")
    assert b"\0" not in content
    assert os.fstat(writer.fileno()).st_ino == path.stat().st_ino


def test_reader_goes_on_across_a_cut(path: pathlib.Path, writer: IO[bytes]) -> None:
    """Whoever follows gets each line once: none again that the log kept, and none left out that is new."""
    reader = logs.Reader(path)
    seen = []
    for number in range(500):
        writer.write(b"line %03d %0600d\n" % (number, number))
        if number % 7 == 0:
            seen += reader.lines()
        if number % 50 == 49:
            logs.bound(path, 1 << 16)
    seen += reader.lines()

    assert [int(line.split()[1]) for line in seen] == list(range(500))
    assert path.stat().st_size < 1 << 16


def test_reader_that_fell_behind_a_cut_goes_on_with_what_is_kept(path: pathlib.Path, writer: IO[bytes]) -> None:
    """What was dropped unread is lost, and half a line from before is not glued to what comes now."""
    reader = logs.Reader(path)
    writer.write(b"first\nhalf a li")
    reader.lines()
    writer.write(b"ne\n" + b"x" * 90 + b"\nlast\n")
    logs.bound(path, 20)

    assert path.read_bytes() == b"last\n"
    assert reader.lines() == ["last"]


def test_a_log_that_can_not_be_bounded_is_told_once_and_tried_again(
    path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that fails is mended or gets worse; only such a change is worth a line."""
    caplog.set_level(logging.INFO)
    limit = logs.Limit(path)
    path.mkdir()  # which can be opened for writing by nobody, root included
    limit.enforce(100)
    limit.enforce(100)
    path.rmdir()
    path.symlink_to(path)
    limit.enforce(100)
    path.unlink()
    path.write_bytes(b"a\n" * 100)
    limit.enforce(100)
    limit.enforce(100)
    trouble = "the log %s can't be kept from growing: [Errno %d] %s: '%s'"

    assert path.stat().st_size <= 50
    assert [record.getMessage() for record in caplog.records] == [
        trouble % (path, errno.EISDIR, "Is a directory", path),
        trouble % (path, errno.ELOOP, "Too many levels of symbolic links", path),
        f"the log {path} is kept from growing again",
    ]
