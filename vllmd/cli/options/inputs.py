"""Text and JSON from stdin and from files, of a bounded size; what can't be read is misuse."""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import Any

import typer

LARGEST_BYTES = 64 << 20
"""As much as a message to the daemon holds."""

STDIN = pathlib.Path("-")

_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""Half of a character, escaped or as it is."""


def read_stdin(hint: str) -> str:
    """Read all of stdin; *hint* is the argument or option that asked for it, for errors."""
    return _decoded(sys.stdin.buffer.read(LARGEST_BYTES + 1), "stdin", hint)


def read_piped(hint: str, missing: str, *, asked: bool) -> str:
    """Read what was left out of the command line from stdin.

    Args:
        hint: the argument, for errors.
        missing: what to say where nothing is piped.
        asked: whether `-` was typed in its place: then a person may type it, too.

    Raises:
        typer.BadParameter: nothing is there.
    """
    if not asked and sys.stdin.isatty():
        raise typer.BadParameter(missing, param_hint=hint)
    text = read_stdin(hint)
    if not text:
        raise typer.BadParameter("stdin is empty" if asked else missing, param_hint=hint)
    return text


def read_file(path: pathlib.Path, hint: str) -> str:
    """Read a file, or stdin for `-`.

    Raises:
        typer.BadParameter: it can't be read, is too large, or is no text; *hint* is named as what is wrong.
    """
    if path == STDIN:
        return read_stdin(hint)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror or error}", param_hint=hint) from None
    return _decoded(content, str(path), hint)


def read_json(path: pathlib.Path, hint: str) -> Any:
    """Read a file of JSON, or stdin for `-`; raises as `read_file`, also for what is no JSON."""
    text = read_file(path, hint)
    try:
        return from_json(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path} is no JSON: {error}", param_hint=hint) from None


def from_json(text: str, **options: Any) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none, or has half of a character, which `\\ud800` is and which no message can hold.
        RecursionError: it is nested too deep.
    """
    found = json.loads(text, **options)
    if _HALF.search(text):  # two halves make a character, so only what was read tells
        json.dumps(found, ensure_ascii=False).encode()
    return found


def without_line_end(text: str) -> str:
    """Leave out one line end at the end: `echo` adds one, and to a model it is a token."""
    return text.removesuffix("\n").removesuffix("\r")


def _decoded(content: bytes, name: str, hint: str) -> str:
    if len(content) > LARGEST_BYTES:
        raise typer.BadParameter(f"{name} has more than {LARGEST_BYTES >> 20} MiB", param_hint=hint)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{name} is no UTF-8 text: {error}", param_hint=hint) from None
