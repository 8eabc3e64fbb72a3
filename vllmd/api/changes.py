"""Which engines a reader who has seen them before is to be sent again. Pure.

An engine has a *version*, which goes up when anything of it changes that is no figure, and a *count*, which goes up
when its figures do: tokens, requests in flight, time since the start began. A new version is sent as soon as the reader
is due; figures at each *beat*, about once a second, and while the engine is busy whether they have changed or not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """How far an engine is."""

    version: int
    count: int
    busy: bool = False
    """Whether it generates, or is being loaded."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """What a reader has of an engine."""

    mark: Mark
    beat: int
    """The one after which it was sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """What a reader is to be sent: engines' ids."""

    changed: tuple[str, ...]
    """In the order of those that there are."""
    forgotten: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.forgotten)


def news(sent: Mapping[str, Sent], there: Mapping[str, Mark], beat: int) -> News:
    """Find what has changed for a reader.

    Args:
        sent: what it has.
        there: all engines, by id.
        beat: the number of the last.
    """
    changed = tuple(key for key, mark in there.items() if _is_due(sent.get(key), mark, beat))
    return News(changed, tuple(key for key in sent if key not in there))


def _is_due(sent: Sent | None, mark: Mark, beat: int) -> bool:
    if sent is None or sent.mark.version != mark.version:
        return True
    return sent.beat != beat and (mark.busy or sent.mark.count != mark.count)
