from __future__ import annotations

import os
from pathlib import Path

import pytest

from vllmd.cli.chat import history


def test_lines_come_back(tmp_path: Path) -> None:
    """Whatever they hold, in the order in which they were typed."""
    path = tmp_path / "a" / "history"
    lines = ["hello", "two\nlines", "back\\slash \\n", "ü日"]
    for line in lines:
        history.append(path, line)

    assert history.read(path) == lines


def test_it_is_for_its_user_alone(tmp_path: Path) -> None:
    """Whatever the umask is, and whatever mode it had."""
    path = tmp_path / "a" / "history"
    before = os.umask(0)
    try:
        history.append(path, "secret")
        modes = path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777
        path.chmod(0o644)
        history.append(path, "secret")
    finally:
        os.umask(before)

    assert modes == (0o600, 0o700)
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_does_not_grow_for_ever(tmp_path: Path) -> None:
    """When it has twice as many lines as are kept, the last ones stay."""
    path = tmp_path / "history"
    path.write_text("".join(f"{number}\n" for number in range(2 * history.KEPT)))

    found = history.read(path)

    assert found == path.read_text().splitlines()
    assert (len(found), found[-1]) == (history.KEPT, str(2 * history.KEPT - 1))
    assert path.stat().st_mode & 0o777 == 0o600


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the state directory; a relative one does not count, as the specification says."""
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert history.default_path() == Path("/x/vllmd/chat_history")
    monkeypatch.setenv("XDG_STATE_HOME", "x")
    assert history.default_path() == Path.home() / ".local/state/vllmd/chat_history"


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    """Nor if it is `/dev/null`, as somebody may link it."""
    path = tmp_path / "history"
    assert history.read(path) == []
    path.symlink_to("/dev/null")
    history.append(path, "x")

    assert history.read(path) == []
