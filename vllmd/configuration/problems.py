"""What is wrong with a configuration, in words: where, with which setting, and what would be right. Pure."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One mistake."""

    where: str
    """`FILE:LINE`, `$VARIABLE` or `--flag`."""
    key: str
    """The setting as it is written there; empty for what concerns a whole file."""
    text: str

    def __str__(self) -> str:
        named = self.key and not self.where.startswith(("$", "--"))  # those name it already
        return f"{self.where}: {self.key}: {self.text}" if named else f"{self.where}: {self.text}"


class ConfigurationError(Exception):
    """A configuration that can't be in force; *problems* are all that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def nearest(name: str, known: Iterable[str], least: float = 0.6) -> str | None:
    """Find the known name that somebody most likely meant; `None` if none is like it."""
    found = difflib.get_close_matches(name.lower().replace("-", "_"), list(known), n=1, cutoff=least)
    return found[0] if found else None
