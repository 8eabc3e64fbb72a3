"""What is done to a host, a step each: said first, then done."""

from __future__ import annotations

import dataclasses
import difflib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Protocol

from vllmd.client import Client, VllmdError

_OPEN = 0o755
_READABLE = 0o644
_OCTAL = re.compile(r"\\([0-7]{3})")
"""How mountinfo writes a space."""
_ANSWER_SECONDS = 5.0
_LOOK_SECONDS = 0.2
_COMMAND_SECONDS = 300.0
"""A start takes over engines, and a stop waits for generations."""


class Step(Protocol):
    """Something to be done, or left alone with a reason."""

    def lines(self) -> Iterator[str]:
        """Say it: a verb and what it is done to, then details, indented."""

    def do(self) -> None:
        """Do it.

        Raises:
            OSError: the system does not let us.
            Failed: a command did not work.
        """


class Failed(Exception):
    """A command ended with an error; its words are the message."""


@dataclasses.dataclass(frozen=True, slots=True)
class Keep:
    """Something is as it is to be."""

    what: str
    why: str

    def lines(self) -> Iterator[str]:
        """Say it."""
        yield f"keep     {self.what}  ({self.why})"

    def do(self) -> None:
        """Leave it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Write:
    """A file gets a text, all of it at once."""

    path: pathlib.Path
    text: str
    before: str | None

    def lines(self) -> Iterator[str]:
        """Say it, with what changes."""
        if self.before is None:
            yield f"create   {self.path}"
            return
        yield f"replace  {self.path}"
        changes = difflib.unified_diff(self.before.splitlines(), self.text.splitlines(), lineterm="", n=0)
        yield from (f"         {line}" for line in changes if not line.startswith(("---", "+++", "@@")))

    def do(self) -> None:
        """Write it."""
        for directory in reversed(self.path.parents):
            if not directory.exists():
                directory.mkdir()
                directory.chmod(_OPEN)  # whatever the shell's umask: the service has to read it
        descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self.text)
                os.fchmod(descriptor, _READABLE)
            os.replace(name, self.path)
        except BaseException:
            pathlib.Path(name).unlink(missing_ok=True)
            raise


@dataclasses.dataclass(frozen=True, slots=True)
class Remove:
    """A file goes, or a directory with all that is in it."""

    path: pathlib.Path
    what: str = ""

    def lines(self) -> Iterator[str]:
        """Say it."""
        yield f"remove   {self.path}" + (f"  ({self.what})" if self.what else "")

    def do(self) -> None:
        """Remove it; what has gone meanwhile is no error. A disk that is mounted in there is somebody's own."""
        if mounted := _mounted(self.path):
            raise Failed(f"{mounted} is a mount point: unmount it first")
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def _mounted(path: pathlib.Path) -> str:
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    points = [pathlib.Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), line.split()[4])) for line in lines]
    return next((str(point) for point in points if point.is_relative_to(path.absolute())), "")


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A command is run."""

    command: tuple[str, ...]
    why: str = ""

    def lines(self) -> Iterator[str]:
        """Say it."""
        yield f"run      {' '.join(self.command)}" + (f"  ({self.why})" if self.why else "")

    def do(self) -> None:
        """Run it."""
        try:
            done = subprocess.run(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"has not ended after {_COMMAND_SECONDS:g} s") from None
        if done.returncode != 0:
            raise Failed(done.stdout.strip() or f"ended with status {done.returncode}")


@dataclasses.dataclass(frozen=True, slots=True)
class Upgrade:
    """A daemon that runs executes the new code.

    Args:
        run: the command that has it do so.
        address: where it serves.
        seconds: that it may take.
    """

    run: Run
    address: str
    seconds: float = 30.0

    def lines(self) -> Iterator[str]:
        """Say it."""
        yield from self.run.lines()

    def do(self) -> None:
        """Have it do so, and wait until the new code answers; one that refuses goes on as it was."""
        before = self._began()
        self.run.do()
        deadline = time.monotonic() + self.seconds
        while self._began() in ("", before):
            if time.monotonic() > deadline:
                raise Failed("the daemon goes on with the code of before, and with its engines; its log says why")
            time.sleep(_LOOK_SECONDS)

    def _began(self) -> str:
        """When the program that answers now began; empty if none does."""
        try:
            with Client(self.address) as client:
                return client.status(timeout=_ANSWER_SECONDS).host.start_time.ToJsonString()
        except VllmdError:
            return ""
