"""An engine's log file: read from its end, followed, and kept from filling the disk.

The tree appends to a file, never to a pipe of the daemon: a pipe would break with the daemon's death, and
vLLM with it.
"""

from __future__ import annotations

import logging
import os
import pathlib
import re
from typing import IO

from vllmd.worker.causes import text_of

_log = logging.getLogger(__name__)
_LINE_ENDS = re.compile(rb"[\r\n]+")  # progress bars redraw their line with a bare carriage return
_TAIL_BYTES = 1 << 20
_LINE_BYTES = 1000
"""What is kept of a line that is quoted: a file without line ends must not become an answer of a megabyte."""
_SEEN_BYTES = 1 << 10
"""How much of what was read last a reader remembers, to find it again after a cut."""


class Reader:
    """Reads the whole lines that were added to a log since the last look."""

    def __init__(self, path: pathlib.Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset
        self._rest = b""
        self._seen = b""

    def lines(self) -> list[str]:
        """Read the new lines; none once the file is gone."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._offset:
                    self._find_again(file)
                file.seek(self._offset)
                new = file.read(_TAIL_BYTES)
        except FileNotFoundError:
            return []
        self._offset += len(new)
        self._seen = (self._seen + new)[-_SEEN_BYTES:]
        *whole, rest = _LINE_ENDS.split(self._rest + new)
        self._rest = rest[-_TAIL_BYTES:]  # of a line without end
        return [line.decode(errors="replace") for line in whole if line]

    def _find_again(self, file: IO[bytes]) -> None:
        """Go on after what was read last in a log that `bound` has cut short, or with all that it kept.

        A log that repeats itself word for word may so be read on too far along.
        """
        at = file.read().rfind(self._seen) if self._seen else -1
        if at < 0:
            self._offset, self._rest = 0, b""
        else:
            self._offset = at + len(self._seen)


def tail(path: pathlib.Path, count: int, end: int | None = None) -> list[str]:
    """Read the last *count* lines before the offset *end*, or before the end of the file; none without a file.

    A line still being written counts.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size if end is None else end
            start = max(0, size - _TAIL_BYTES)
            file.seek(start)
            text = file.read(size - start)
    except FileNotFoundError:
        return []
    lines = [line for line in _LINE_ENDS.split(text) if line]
    return [line[:_LINE_BYTES].decode(errors="replace") for line in lines[-count:]] if count else []


def end_offset(path: pathlib.Path) -> int:
    """Tell where the log ends now; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def bound(path: pathlib.Path, limit_bytes: int) -> None:
    """Drop the older half of a log that has grown beyond *limit_bytes*.

    The writers keep their descriptor: they opened it for appending, so they go on at the new end. A line
    that is written during the copy is lost.
    """
    try:
        with path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit_bytes:
                return
            file.seek(size - limit_bytes // 2)
            file.readline()
            kept = file.read()
            file.seek(0)
            file.write(kept)
            file.truncate(len(kept))
    except FileNotFoundError:
        return


class Limit:
    """Keeps a log within its size again and again, also when the disk fails for a while, which is logged once."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._trouble = ""

    def enforce(self, limit_bytes: int) -> None:
        """Cut the log if it is longer than *limit_bytes*."""
        trouble = ""
        try:
            bound(self._path, limit_bytes)
        except OSError as error:
            trouble = text_of(error)
        if trouble and trouble != self._trouble:
            _log.error("the log %s can't be kept from growing: %s", self._path, trouble)
        elif self._trouble and not trouble:
            _log.info("the log %s is kept from growing again", self._path)
        self._trouble = trouble
