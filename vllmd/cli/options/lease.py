"""Leases that need not be on a command line: every user of a host can read those, and whoever knows a lease has it."""

from __future__ import annotations

import os
import re
import sys

import typer

VARIABLE = "VLLMD_LEASE"
"""Only this user, and root, can read a process's environment."""

EXPOSED = (
    f"Better by `-` or `{VARIABLE}`: command lines can be read by every user of this host, and whoever knows a lease "
    "can use it and end it."
)


_NAME = re.compile(r"(engines/|leases/)?[A-Za-z0-9-]+")


def or_prompt(source: str, prompt: str | None) -> tuple[str, str | None]:
    """Take the only argument of `generate` for the prompt if a lease is in the environment and it can be no name."""
    lease = os.environ.get(VARIABLE, "")
    if lease and prompt is None and source != "-" and not _NAME.fullmatch(source):
        return lease, source
    return source, prompt


def or_from_stdin(argument: str, hint: str) -> str:
    """Read a lease from the first line of stdin if *argument* is `-`; *hint* is the argument's name, for errors."""
    if argument != "-":
        return argument
    lease = sys.stdin.buffer.readline().decode(errors="replace").strip()
    if not lease:
        raise typer.BadParameter("stdin does not begin with a lease", param_hint=hint)
    return lease
