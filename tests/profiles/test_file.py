from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.profiles import key, record
from vllmd.profiles import file
from vllmd.profiles.record import Record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "p.sqlite3"


def written(path: Path, *records: Record) -> None:
    """Write records."""
    file.write(path, {one.id: one for one in records})


def execute(path: Path, statement: str, *values: Any) -> None:
    """Do something to the file that we would not."""
    database = sqlite3.connect(path)
    with database:
        database.execute(statement, values)
    database.close()


FULL = record()
SPARSE = record(
    "a/b",
    key=key("f2", "{}"),
    recorded=1.0,
    graphs_bytes=None,
    kv_cache_bytes=None,
    kv_cache_tokens=None,
    max_model_len=None,
    peak_bytes=None,
)


def test_what_is_written_is_read_again_the_oldest_first(path: Path) -> None:
    """With what is known of it, and nobody else may read it."""
    written(path, FULL, SPARSE)

    assert file.read(path) == [SPARSE, FULL]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_record_takes_the_place_of_the_one_before(path: Path) -> None:
    """One for each key and version; what is to go goes."""
    again, other = record(weights_bytes=7, load_count=2), record(version="0.32.0")
    written(path, FULL, SPARSE)
    file.write(path, {again.id: again, other.id: other, SPARSE.id: None})

    assert sorted(file.read(path), key=lambda one: one.profile.vllm_version) == [again, other]


def test_where_nothing_was_written_there_is_nothing(path: Path) -> None:
    """No file, which reading does not make, or an empty one, which was just made when the daemon died."""
    assert file.read(path) == []
    assert not path.exists()
    path.touch()

    assert file.read(path) == []


def test_what_was_not_written_to_its_end_is_not_there(path: Path) -> None:
    """A record that SQLite refuses takes with it what came in the same go."""
    written(path, FULL)
    with pytest.raises(file.Unusable):
        written(path, SPARSE, record("x", key=key("f3"), weights_bytes=[1]))

    assert file.read(path) == [FULL]


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/no/such/place/at/all")])
def test_what_cannot_be_opened_can_not_be_used_now(path: Path, make: Any) -> None:
    """Later it may be."""
    make(path)
    with pytest.raises(file.Unusable):
        written(path, FULL)


def test_a_file_that_somebody_holds_can_not_be_used_now(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, and not for ever."""
    written(path, FULL)
    monkeypatch.setattr(file, "_BUSY_SECONDS", 0.01)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(file.Unusable, match="locked"):
        file.read(path)
    with pytest.raises(file.Unusable, match="locked"):
        written(path, SPARSE)
    holder.close()

    assert file.read(path) == [FULL]


def test_what_is_no_database_is_broken(path: Path) -> None:
    """Whoever put it there."""
    path.write_bytes(b"not a database " * 100)
    with pytest.raises(file.Broken):
        file.read(path)
    with pytest.raises(file.Broken):
        written(path, FULL)


def test_a_database_that_is_damaged_or_none_of_ours_is_broken(path: Path) -> None:
    """Half of it overwritten, or without our table."""
    written(path, FULL, *(record(key=key(f"f{number}")) for number in range(99)))
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(file.Broken):
        file.read(path)
    path.write_bytes(whole)
    execute(path, "DROP TABLE profiles")
    with pytest.raises(file.Broken):
        file.read(path)


def test_a_later_vllmds_file_is_left_alone(path: Path) -> None:
    """Whoever goes back to an earlier one wants it again later."""
    written(path, FULL)
    execute(path, "PRAGMA user_version = 2")
    before = path.read_bytes()
    with pytest.raises(file.Newer, match="version 2"):
        file.read(path)
    with pytest.raises(file.Newer):
        written(path, SPARSE)

    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("weights_bytes", -1),
        ("weights_bytes", "much"),
        ("weights_bytes", None),
        ("model", b"\xff"),
        ("settings", "[]"),
        ("settings", "{"),
        ("recorded", 1e12),
        ("max_model_len", 1 << 40),
        ("load_count", 0),
    ],
)
def test_a_row_that_makes_no_sense_is_passed_over(path: Path, column: str, value: Any) -> None:
    """The others are read."""
    written(path, FULL, SPARSE)
    execute(path, f"UPDATE profiles SET {column} = ? WHERE fingerprint = 'f1'", value)

    assert file.read(path) == [SPARSE]


def test_a_broken_file_is_moved_aside_with_what_belongs_to_it(path: Path) -> None:
    """SQLite would apply its journal to the next; an earlier one that was broken makes room."""
    aside = path.with_name(f"{path.name}.broken")
    for text in ("first", "second"):
        path.write_text(text)
        path.with_name(f"{path.name}-journal").write_text("x")
        assert file.set_aside(path) == aside

    assert [one.name for one in path.parent.iterdir()] == [aside.name]
    assert aside.read_text() == "second"
