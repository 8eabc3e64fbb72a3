"""One line of what the doctor says: how it stands, what was found, and what to do. Pure."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable


class Level(enum.StrEnum):
    """How it stands."""

    OK = "ok"
    UNKNOWN = "unknown"
    """It can't be seen from here, by this user: nothing is said to be wrong."""
    WARN = "warn"
    """Engines run, and something will be slower, lost or in the way."""
    FAIL = "fail"
    """The daemon or its engines can't run like this."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One check."""

    check: str
    """What was looked at, in a word or two."""
    level: Level
    found: str
    todo: str = ""
    """What to do about it; never empty where it failed."""


def ok(check: str, found: str) -> Finding:
    """Say that a thing is as it must be."""
    return Finding(check, Level.OK, found)


def unknown(check: str, found: str, todo: str = "") -> Finding:
    """Say that a thing can't be seen."""
    return Finding(check, Level.UNKNOWN, found, todo)


def warn(check: str, found: str, todo: str) -> Finding:
    """Say that a thing should be otherwise."""
    return Finding(check, Level.WARN, found, todo)


def fail(check: str, found: str, todo: str) -> Finding:
    """Say that a thing must be otherwise."""
    return Finding(check, Level.FAIL, found, todo)


def size(size_bytes: int) -> str:
    """Write a size as people do: `64 MiB`, `1.5 GiB`."""
    if size_bytes >= 1 << 30:
        return f"{size_bytes / (1 << 30):,.1f} GiB"
    return f"{size_bytes / (1 << 20):.0f} MiB"


def counted(number: int, noun: str) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def healthy(findings: Iterable[Finding]) -> bool:
    """Tell whether nothing failed."""
    return all(finding.level is not Level.FAIL for finding in findings)
