"""The Python that engines run under, and how it is asked something: by a child that is short-lived."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess

from vllmd.environment import passed_on


@dataclasses.dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter, with what it gets of the daemon's environment."""

    path: pathlib.Path
    """Of the program, or its bare name."""
    pass_environment: tuple[str, ...] = ()
    """Variables that its programs get beyond the usual, as names or patterns."""

    def environment(self) -> dict[str, str]:
        """Say what its programs get of the environment, as that is now."""
        return passed_on(os.environ, self.pass_environment)

    def ask(self, program: str, seconds: float) -> str:
        """Run a program and read what it prints, whatever its exit status.

        That is no proof of anything: who waits for any child may have collected this one's.

        Args:
            program: the text of one.
            seconds: how long it may take.

        Raises:
            OSError: the interpreter can't be run.
            subprocess.TimeoutExpired: it took too long.
        """
        # Not in the daemon's own directory, which Python would look in first.
        done = subprocess.run(
            [str(self.path), "-c", program],
            cwd="/",
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        return done.stdout.decode(errors="replace")
