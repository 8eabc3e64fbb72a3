"""Reads files that a client named: plain ones only, as others may block for ever, and no more than there should be."""

from __future__ import annotations

import os
import pathlib
import stat
from typing import BinaryIO


def opened(path: pathlib.Path) -> BinaryIO:
    """Open a plain file.

    Raises:
        OSError: it can't be opened.
        ValueError: it is no plain file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError("it is no plain file")
    return open(fd, "rb")


def read(path: pathlib.Path, limit_bytes: int) -> bytes:
    """Read a plain file of at most *limit_bytes*, whatever size it says that it has.

    Raises:
        OSError: it can't be read.
        ValueError: it is too large, or no plain file.
    """
    with opened(path) as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    return content
