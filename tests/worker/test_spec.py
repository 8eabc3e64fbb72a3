from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Callable

import msgspec
import pytest

from vllmd.worker.spec import PROGRESS, SPEC, Progress, Spec, append_progress, read_progress, read_spec

A_SPEC = Spec("e-1", "fake", "org/model", {"max_model_len": 10, "dtype": None}, "/sys/fs/cgroup/x", 120.0, "0.1", "b")


def test_worker_reads_the_spec_that_the_daemon_wrote(tmp_path: pathlib.Path) -> None:
    """Nothing of a client's arguments changes on the way."""
    (tmp_path / SPEC).write_bytes(msgspec.json.encode(A_SPEC))

    assert read_spec(tmp_path) == A_SPEC


@pytest.mark.parametrize("text", ["", "{", '{"engine_id": "e-1"}', '{"engine_id": 1}'])
def test_spec_that_was_cut_short_is_an_error(tmp_path: pathlib.Path, text: str) -> None:
    """A daemon may die while it writes, and half a spec is not to be acted on."""
    (tmp_path / SPEC).write_text(text)

    with pytest.raises(msgspec.DecodeError):
        read_spec(tmp_path)


def test_spec_that_is_missing_is_an_error_of_the_file_system(tmp_path: pathlib.Path) -> None:
    """Missing is told apart from broken."""
    with pytest.raises(FileNotFoundError):
        read_spec(tmp_path)


def test_progress_is_read_in_the_order_in_which_it_was_told(tmp_path: pathlib.Path) -> None:
    """Each step is a line of its own, with all that was said."""
    told = [Progress("started", 42, 1234), Progress("importing", 42), Progress("failed", 42, errors=("E: a\nb",))]
    for progress in told:
        append_progress(tmp_path, progress)

    assert read_progress(tmp_path) == told
    assert len((tmp_path / PROGRESS).read_text().splitlines()) == 3


def test_progress_of_a_worker_that_has_not_begun_is_none(tmp_path: pathlib.Path) -> None:
    """No file is no news."""
    assert read_progress(tmp_path) == []


def test_line_still_being_written_is_left_for_later(tmp_path: pathlib.Path) -> None:
    """A reader between two writes sees only whole lines."""
    append_progress(tmp_path, Progress("started", 42, 1234))
    with (tmp_path / PROGRESS).open("a") as file:
        file.write('{"event":"impor')

    assert read_progress(tmp_path) == [Progress("started", 42, 1234)]


def test_progress_is_nobody_elses_business(tmp_path: pathlib.Path) -> None:
    """Errors of a start may quote a client's arguments."""
    old = os.umask(0)
    try:
        append_progress(tmp_path, Progress("started", 42))
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / PROGRESS).stat().st_mode) == 0o600


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_plain_file_holds_nobody_up(tmp_path: pathlib.Path, make: Callable[[pathlib.Path], None]) -> None:
    """Code that runs in the engine may put anything into the engine's directory."""
    make(tmp_path / SPEC)
    make(tmp_path / PROGRESS)

    with pytest.raises(OSError, match=r"plain file|symbolic links|directory"):
        read_spec(tmp_path)
    assert read_progress(tmp_path) == []
