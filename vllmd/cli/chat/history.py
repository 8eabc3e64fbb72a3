"""The lines that were typed in chats, in a file of the user's own."""

from __future__ import annotations

import os
import pathlib
import stat

KEPT = 1000
"""Lines; the file is cut down to so many when it has twice as many."""


def default_path() -> pathlib.Path:
    """Where the file is: in `$XDG_STATE_HOME/vllmd`, or below the home."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = pathlib.Path(state) if state.startswith("/") else pathlib.Path.home() / ".local" / "state"
    return base / "vllmd" / "chat_history"


def read(path: pathlib.Path) -> list[str]:
    """Read the last lines, the oldest first; none where there is no file.

    Raises:
        OSError: there is one, and it can't be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    if len(lines) >= 2 * KEPT and path.is_file():
        _replace(path, lines[-KEPT:])
    return [_unescaped(line) for line in lines[-KEPT:]]


def append(path: pathlib.Path, line: str) -> None:
    """Add a line; the file is made for its user alone.

    Raises:
        OSError: it can't be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with open(descriptor, "a", encoding="utf-8", errors="replace") as file:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)
        file.write(_escaped(line) + "\n")


def _replace(path: pathlib.Path, lines: list[str]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
    part.replace(path)


def _escaped(line: str) -> str:
    """On one line; one that was pasted may hold several."""
    return line.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _unescaped(line: str) -> str:
    return line.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
