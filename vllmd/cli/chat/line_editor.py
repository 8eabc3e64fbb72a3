"""Lines from a terminal, with editing, completion and history by readline, where Python has it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from types import ModuleType

from vllmd.cli import terminal
from vllmd.cli.chat import history


class Cleared(Exception):
    """Ctrl-C was pressed on a line with text."""


class LineEditor:
    """Reads lines; there is one in a process, as there is one readline.

    Args:
        path: of the history; `None` for none in a file.
        complete: lists what may follow the beginning of a line.
    """

    def __init__(self, path: pathlib.Path | None, complete: Callable[[str], list[str]]) -> None:
        self._path = path
        self._complete = complete
        self._last = ""
        self._readline = _readline()
        if self._readline is not None:
            self._set_up(self._readline)

    def read(self, prompt: str) -> str:
        """Read a line.

        Raises:
            EOFError: for Ctrl-D.
            Cleared: for Ctrl-C on a line with text, as far as readline tells that.
            KeyboardInterrupt: for Ctrl-C on an empty one.
        """
        try:
            line = input(prompt)
        except KeyboardInterrupt:
            if self._readline is not None and self._readline.get_line_buffer().strip():
                raise Cleared from None
            raise
        # What is no UTF-8 can't be sent, nor can the halves of a character that Python keeps it as.
        line = line.encode("utf-8", "replace").decode("utf-8")
        if line.strip() and line != self._last:
            self._remember(line)
        return line

    def _set_up(self, readline: ModuleType) -> None:
        readline.set_auto_history(False)
        readline.set_completer_delims("")
        readline.set_completer(self._completion)
        readline.parse_and_bind("tab: complete")
        for line in self._read_history():
            readline.add_history(line)
            self._last = line

    def _read_history(self) -> list[str]:
        try:
            return history.read(self._path) if self._path is not None else []
        except OSError as error:
            self._give_up(error)
            return []

    def _remember(self, line: str) -> None:
        self._last = line
        if self._readline is not None:
            self._readline.add_history(line)
        try:
            if self._path is not None:
                history.append(self._path, line)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        terminal.stderr().print(f"No history: {self._path}: {error.strerror}. --no-history does without.")
        self._path = None

    def _completion(self, text: str, number: int) -> str | None:
        found = self._complete(text)
        return found[number] if number < len(found) else None


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # a Python that was built without; `input` reads lines all the same
        return None
    return readline
