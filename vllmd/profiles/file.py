"""The file that records are kept in: SQLite, opened for each reading and writing, which may block.

Its rollback journal rather than a write-ahead log: writes are rare, and so there is one file, which needs no shared
memory and can be read where nothing can be written. Whatever is wrong with it is raised as one of three errors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

from vllmd.planner.profile import Key, Profile
from vllmd.profiles.record import Record
from vllmd.worker.report import Size

VERSION = 1
MOST = 1_000
"""How many records are kept; a host sees some dozens."""

_BUSY_SECONDS = 5.0
_LAST = 253_402_300_799.0
"""The last second that a `google.protobuf.Timestamp` can tell: in the year 9999."""
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA}
"""SQLite's codes for a file that is none of ours any more; SQLITE_ERROR is a table or a column that is not there."""
_BESIDE = ("-journal", "-wal", "-shm")

_KEY = ("fingerprint", "product", "settings", "vllm_version")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row: SQLite does not see to types."""

    fingerprint: str
    product: str
    settings: str
    vllm_version: str
    model: str
    weights_bytes: Size
    activation_bytes: Size
    other_bytes: Size
    graphs_bytes: Size | None
    kv_cache_bytes: Size | None
    kv_cache_tokens: Size | None
    max_model_len: Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)] | None
    peak_bytes: Size | None
    recorded: Annotated[float, msgspec.Meta(ge=0, le=_LAST)]
    load_count: Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]


_COLUMNS = tuple(field.name for field in msgspec.structs.fields(Row))
_SCHEMA = f"CREATE TABLE IF NOT EXISTS profiles ({', '.join(_COLUMNS)}, PRIMARY KEY ({', '.join(_KEY)})) WITHOUT ROWID"
_READ = f"SELECT {', '.join(_COLUMNS)} FROM profiles ORDER BY recorded DESC LIMIT ?"  # noqa: S608 - names of our own
_PUT = f"INSERT OR REPLACE INTO profiles ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_DROP = f"DELETE FROM profiles WHERE {' AND '.join(f'{name} = ?' for name in _KEY)}"  # noqa: S608


class Unusable(Exception):
    """The file can't be read or written now; the text says why."""


class Broken(Exception):
    """It is no database, or not whole, or has not what ours has."""


class Newer(Exception):
    """A later vllmd has written it."""


def read(path: pathlib.Path) -> list[Record]:
    """Read all records, the oldest first; none if there is no file. Rows that make no sense are passed over.

    Raises:
        Unusable, Broken, Newer: as they say.
    """
    with _opened(path, make=False) as database:
        rows = database.execute(_READ, (MOST,)).fetchall() if database and _version(database) else []
    return [record for row in reversed(rows) if (record := _record(row)) is not None]


def write(path: pathlib.Path, changes: Mapping[tuple[Key, str], Record | None]) -> None:
    """Write records, and remove those that are `None`: all of them, or none.

    Raises:
        Unusable, Broken, Newer: as they say.
    """
    with _opened(path, make=True) as database:
        assert database is not None
        database.execute("BEGIN IMMEDIATE")
        if not _version(database):
            database.execute(_SCHEMA)
            database.execute(f"PRAGMA user_version = {VERSION}")
        for (key, version), record in changes.items():
            if record is None:
                database.execute(_DROP, (key.fingerprint, key.product, key.settings, version))
            else:
                database.execute(_PUT, _values(record))
        database.execute("COMMIT")


def set_aside(path: pathlib.Path) -> pathlib.Path:
    """Move a broken file out of the way, in place of one that was before; returns where it is.

    Raises:
        OSError: it can't be moved.
    """
    aside = path.with_name(f"{path.name}.broken")
    for suffix in _BESIDE:  # SQLite would apply a journal to the file that comes next
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return path.rename(aside)


@contextlib.contextmanager
def _opened(path: pathlib.Path, *, make: bool) -> Iterator[sqlite3.Connection | None]:
    try:
        if not make and not path.exists():
            yield None
            return
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # Closed without a commit, it is rolled back.
        with contextlib.closing(sqlite3.connect(path, _BUSY_SECONDS, isolation_level=None)) as database:
            yield database
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # none if it is no error of the file
        raise (Broken if code in _BROKEN else Unusable)(str(error)) from error
    except OSError as error:
        raise Unusable(str(error)) from error


def _version(database: sqlite3.Connection) -> int:
    """Tell the version of the schema; 0 for a file that is new."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise Newer(f"it is of version {version}, and this daemon knows {VERSION}")
    return int(version)


def _values(record: Record) -> tuple[Any, ...]:
    values = dataclasses.asdict(record.profile) | dataclasses.asdict(record.key)
    values |= {"model": record.model, "load_count": record.load_count}
    return tuple(values[name] for name in _COLUMNS)


def _record(values: tuple[Any, ...]) -> Record | None:
    try:
        row = msgspec.convert(dict(zip(_COLUMNS, values, strict=True)), Row)
        known = isinstance(json.loads(row.settings), dict)
    except (ValueError, RecursionError):  # of a type or a size that can't be, or no JSON
        return None
    sizes = {field.name: getattr(row, field.name) for field in dataclasses.fields(Profile)}
    key = Key(row.fingerprint, row.product, row.settings)
    return Record(key=key, profile=Profile(**sizes), model=row.model, load_count=row.load_count) if known else None
