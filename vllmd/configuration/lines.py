"""On which line of a TOML file each key stands, which `tomllib` does not tell. Pure.

This reads no values: it only steps over them, so it takes no more than strings, brackets and comments. It is right for
what `tomllib` accepts, and goes as far as it can in what it does not, to name the key of an error.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib

Key = tuple[str, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_HEAD = re.compile(r"\[\[?")
_SKIPPED = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
"""What may stand between two statements."""


@dataclasses.dataclass(frozen=True, slots=True)
class Statement:
    """A key with its value, or the head of a table."""

    line: int
    """Counts from 1."""
    key: Key
    """With the names of the tables around it."""


def statements(text: str) -> list[Statement]:
    """List the keys and tables of a TOML file in their order; those of inline tables count as their outermost one's.

    Args:
        text: with newlines as `tomllib` wants them, alone or after a carriage return.
    """
    found: list[Statement] = []
    table: Key = ()
    position = 0
    while (position := _match(_SKIPPED, text, position)) < len(text):
        line = text.count("\n", 0, position) + 1
        head = _HEAD.match(text, position)
        key, position = _key(text, head.end() if head else position)
        if not key:
            break
        if head:
            table = key
            found.append(Statement(line, key))
            position = _line_end(text, position)
        else:
            found.append(Statement(line, table + key))
            position = _value_end(text, position)
    return found


def lines(text: str) -> dict[Key, int]:
    """Map each key and table to the line where it first stands; `a.b = 1` counts for `a` as well."""
    result: dict[Key, int] = {}
    for statement in statements(text):
        for length in range(1, len(statement.key) + 1):
            result.setdefault(statement.key[:length], statement.line)
    return result


def _match(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return found.end() if found else position


def _key(text: str, position: int) -> tuple[Key, int]:
    """Read a key with dots in it; an empty one if there is none."""
    names: list[str] = []
    while True:
        position = _match(_BLANK, text, position)
        if bare := _BARE.match(text, position):
            names.append(bare[0])
            position = bare.end()
        elif text[position : position + 1] in ('"', "'") and (quoted := _STRING.match(text, position)):
            names.append(_unquoted(quoted[0]))
            position = quoted.end()
        else:
            return tuple(names), position
        position = _match(_BLANK, text, position)
        if text[position : position + 1] != ".":
            return tuple(names), position
        position += 1


def _unquoted(quoted: str) -> str:
    try:
        name: str = tomllib.loads(f"x = {quoted}")["x"]
    except tomllib.TOMLDecodeError:
        return quoted
    return name


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _value_end(text: str, position: int) -> int:
    """Step over a value: to the end of the line on which its last bracket is closed."""
    depth = 0
    while position < len(text):
        character = text[position]
        if character in "\"'" and (string := _STRING.match(text, position)):
            if len(string[0]) < 6 and text.startswith(character * 3, position):  # three quotes that are never closed
                return len(text)
            position = string.end()
            continue
        if character == "#":
            position = _line_end(text, position)
            continue
        if character == "\n" and depth <= 0:
            return position
        depth += (character in "[{") - (character in "]}")
        position += 1
    return position
