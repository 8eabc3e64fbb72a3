"""Which files the configuration is read from, and what they say: one file, and drop-ins beside it that count more."""

from __future__ import annotations

import os
import pathlib
import re
import stat
import tomllib
from collections.abc import Mapping

from vllmd.configuration.layer import Layer, of_table
from vllmd.configuration.lines import lines, statements
from vllmd.configuration.places import xdg

NAME = "vllmd.toml"
VARIABLE = "VLLMD_CONFIG"
_MOST_BYTES = 1 << 20
"""Of one file: whoever names a disk by mistake is told so."""
_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


def place(environment: Mapping[str, str]) -> pathlib.Path:
    """Tell where the configuration is unless the command line names it: systemd's directory, root's, or the user's."""
    if named := environment.get(VARIABLE):
        return pathlib.Path(named).absolute()
    if directory := environment.get("CONFIGURATION_DIRECTORY"):
        return pathlib.Path(directory.partition(":")[0]) / NAME
    if os.geteuid() == 0:
        return pathlib.Path("/etc/vllmd") / NAME
    return xdg("XDG_CONFIG_HOME", environment) / "vllmd" / NAME


def drop_ins(path: pathlib.Path) -> list[pathlib.Path]:
    """List the files of `NAME.d` beside a file, in the order in which they count; later ones count more.

    Raises:
        OSError: the directory is there and can't be read.
        ValueError: others could put files there: beside a file in `/tmp` anybody can make such a directory.
    """
    directory = path.with_name(f"{path.name}.d")
    try:
        link, status = directory.lstat(), directory.stat()
        found = list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    if status.st_mode & stat.S_IWOTH:
        raise ValueError(f"can be written by everybody (mode {stat.S_IMODE(status.st_mode):o}), so it is not read")
    if others := {link.st_uid, status.st_uid} - {0, os.geteuid(), *_owner(path)}:
        raise ValueError(f"belongs to uid {others.pop()}, and is read if it is root's, ours or of the file's owner")
    return sorted(one for one in found if one.suffix == ".toml" and not one.name.startswith("."))


def layers(path: pathlib.Path, *, named: bool) -> list[Layer]:
    """Read a file and its drop-ins.

    Args:
        path: the file.
        named: somebody asked for it, so it has to be there.
    """
    result = [read(path)] if named or os.path.lexists(path) else []
    try:
        return result + [read(one) for one in drop_ins(path)]
    except OSError as error:
        problem = f"can't be read: {error.strerror}"
    except ValueError as error:
        problem = str(error)
    layer = Layer()
    layer.refuse(f"{path}.d", "", problem)
    return [*result, layer]


def read(path: pathlib.Path) -> Layer:
    """Read one file; what is wrong with it is in the layer's problems."""
    layer = Layer()
    try:
        text = _text(path)
    except OSError as error:
        layer.refuse(str(path), "", f"can't be read: {error.strerror}")
        return layer
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        layer.refuse(f"{path}:{line}", "", "is not UTF-8, as TOML has to be")
        return layer
    except ValueError as error:
        layer.refuse(str(path), "", str(error))
        return layer
    return parse(path, text)


def parse(path: pathlib.Path, text: str) -> Layer:
    """Take what a file says; what is wrong with it is in the layer's problems."""
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # mostly its own kind; Python's own for a number of thousands of digits
        return _wrong_syntax(path, text, str(error))
    except RecursionError:
        return _wrong_syntax(path, text, "too many brackets in each other (at end of document)")
    known = lines(text)

    def where(key: tuple[str, ...]) -> str:
        return f"{path}:{known.get(key) or known[key[:1]]}"

    return of_table(table, where)


def _text(path: pathlib.Path) -> str:
    """Read a file that is as it must be.

    Raises:
        OSError: it can't be read.
        ValueError: it is no file for this, or not UTF-8.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no file")
        if status.st_mode & stat.S_IWOTH:
            raise ValueError(f"can be written by everybody (mode {stat.S_IMODE(status.st_mode):o}), so it is not read")
        if status.st_size > _MOST_BYTES:
            raise ValueError(f"has {status.st_size} bytes, and a configuration at most {_MOST_BYTES}")
        return file.read(_MOST_BYTES).decode()


def _owner(path: pathlib.Path) -> tuple[int, ...]:
    try:
        return (path.stat().st_uid,)
    except OSError:  # there may be drop-ins alone
        return ()


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would have us wait for a writer


def _wrong_syntax(path: pathlib.Path, text: str, message: str) -> Layer:
    """Name the line and the key of an error that `tomllib` found, as far as they can be told."""
    found = _PLACE.search(message)
    before = statements(text.replace("\r\n", "\n"))
    if found is None or found[1] is None:  # at the end: what began last was not ended
        line, column = before[-1].line if before else 1, ""
    else:
        line, column = int(found[1]), f" in column {found[2]}"
    key = next((".".join(one.key) for one in reversed(before) if one.line <= line), "")
    what = message[: found.start()] if found else message
    layer = Layer()
    layer.refuse(f"{path}:{line}", key, f"is not TOML{column}: {what[:1].lower()}{what[1:]}")
    return layer
