"""A terminal with a person at it: a pty, what a program has written to it, and keys to press."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping

from vllmd.worker.processes import read_stat

DEADLINE_SECONDS = 30.0
CTRL_C = "\x03"
CTRL_D = "\x04"
UP = "\x1b[A"

_UNSEEN = re.compile(r"\x1b\[\?\d+[hl]|\x1b\[[\d;]*m")
"""Colours, and modes such as that for pasted text, which readline switches on and off around each line."""


class Terminal:
    """A program at a terminal of 80 columns, which Ctrl-C reaches as a signal."""

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
        self.process = subprocess.Popen(
            # No code of ours between fork and exec, since gRPC's threads are here: setsid makes it the controlling one.
            ["setsid", "--ctty", sys.executable, "-m", "vllmd.cli", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
        )
        os.close(theirs)
        self.raw = ""
        """All that was written so far."""
        self._seen = 0

    def type(self, text: str) -> None:
        """Type a line and Enter."""
        self.press(text + "\r")

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def interrupt_line(self, text: str) -> None:
        """Begin a line, and press Ctrl-C once the program waits for a key: Python's readline hears none before that."""
        self.press(text)
        self.until(text)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (stat := read_stat(self.process.pid)) is not None and stat.state != "S":
            assert time.monotonic() < deadline, "it does not wait for a key"
            time.sleep(0.001)  # nobody tells when another process has gone to sleep
        self.press(CTRL_C)

    def until(self, text: str) -> str:
        """Wait for *text*, and return what came since the last wait, up to its end."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (found := self.text.find(text, self._seen)) < 0:
            left = deadline - time.monotonic()
            assert left > 0, f"waited for {text!r}; there is {self.text[self._seen :]!r}"
            assert self._read(left), f"it ended without {text!r}: {self.text[self._seen :]!r}"
        begun, self._seen = self._seen, found + len(text)
        return self.text[begun : self._seen]

    def end(self) -> tuple[int, str]:
        """Wait for the program's end; returns its exit status, and what came since the last wait."""
        while self._read(DEADLINE_SECONDS):
            pass
        return self.process.wait(DEADLINE_SECONDS), self.text[self._seen :]

    @property
    def text(self) -> str:
        """What was written so far, less colours and modes, with plain line ends."""
        return _UNSEEN.sub("", self.raw).replace("\r\n", "\n").replace("\r", "")

    def close(self) -> None:
        """End the program whatever it does."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if not ready:
            return False
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:  # as Linux tells that the last writer has gone
            return False
        # What stops within a character is nothing that a test types.
        self.raw += chunk.decode(errors="replace")
        return bool(chunk)


@contextlib.contextmanager
def at_terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """Run a command line at a terminal."""
    plain = {"TERM": "xterm", "NO_COLOR": "1", "INPUTRC": "/dev/null", **environment}
    terminal = Terminal(arguments, {name: value for name, value in os.environ.items() if name != "COLUMNS"} | plain)
    try:
        yield terminal
    finally:
        terminal.close()
