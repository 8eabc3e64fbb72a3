"""Leases that need not be on a command line: every user of a host can read those, and whoever knows a lease has it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence

import typer

VARIABLE = "VLLMD_LEASE"
"""Only this user, and root, can read a process's environment."""

HINT = "ENGINE_OR_LEASE"

EXPOSED = (
    f"Better by `-` or `{VARIABLE}`: command lines can be read by every user of this host, and whoever knows a lease "
    "can use it and end it."
)

_NAME = re.compile(r"(engines/|leases/)?[A-Za-z0-9-]+")
_LEASE = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_SHOWN_CHARACTERS = 40


def is_lease(source: str) -> bool:
    """True if it looks like a lease: engines and models are not called so."""
    return source.startswith("leases/") or _LEASE.fullmatch(source) is not None


def or_prompt(source: str, prompt: str | None, command: str) -> tuple[str, str | None]:
    """Take the only argument of *command* for the prompt if a lease is in the environment and it can be no name.

    Raises:
        typer.BadParameter: it can be no name, and there is no lease.
    """
    if prompt is not None:
        return source, prompt
    source, texts = or_texts(source, [], command)
    return source, texts[0] if texts else None


def or_texts(source: str, texts: Sequence[str], command: str) -> tuple[str, list[str]]:
    """Take the first argument of *command* for a text likewise; raises as `or_prompt`."""
    lease = os.environ.get(VARIABLE, "")
    if source in ("-", lease) or _NAME.fullmatch(source):
        return source, list(texts)
    # A model in place of its engine, which the daemon may know, or a slip of the finger: names have no spaces.
    if (texts and not re.search(r"\s", source)) or (not lease and _MODEL.fullmatch(source)):
        return source, list(texts)
    if lease:
        return lease, [source, *texts]
    message = (
        f"{_shown(source)} was taken for {HINT}, and {VARIABLE} is not set. Name an engine first:\n"
        f"  {command} ENGINE {_quoted(source)}\n"
        f"Or load a model, and set {VARIABLE} as `load` shows then."
    )
    raise typer.BadParameter(message, param_hint=HINT)


def nothing_beside(source: str, what: str, command: str) -> str:
    """Say how to give *what*, a prompt or a text, where *source* was all that was typed."""
    if is_lease(source) or source in ("-", os.environ.get(VARIABLE)):
        return f"give a {what}, or pipe one: echo Hello | {command}"
    word = _quoted(source)
    return (
        f"there is none: {_shown(source)} was taken for {HINT}. If it is the {what}, name an engine first, or pipe it "
        f"and put a lease in {VARIABLE}:\n"
        f"  {command} ENGINE {word}\n"
        f"  echo {word} | {command}"
    )


def or_from_stdin(argument: str, hint: str) -> str:
    """Read a lease from the first line of stdin if *argument* is `-`; *hint* is the argument's name, for errors."""
    if argument != "-":
        return argument
    lease = sys.stdin.buffer.readline().decode(errors="replace").strip()
    if not lease:
        raise typer.BadParameter("stdin does not begin with a lease", param_hint=hint)
    return lease


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…")


def _quoted(text: str) -> str:
    """Write it as a shell takes it; what is long, or of several lines, would only hide the command around it."""
    return shlex.quote(text) if len(text) <= _SHOWN_CHARACTERS and text.isprintable() else "TEXT"
