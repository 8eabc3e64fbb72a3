"""How long each verdict has stood, and which changes of it are news."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping

from vllmd.watchdog.verdicts import Verdict

LINGER_SECONDS = 10.0
"""What a process that ends rightly may stay in NVML's list: 86 GiB take 1.7 s. Before that it is no news."""

_NO_NEWS_AT_FIRST = (Verdict.OWNED, Verdict.FOREIGN)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What a verdict has to go on being the same of."""

    verdict: Verdict
    parent_pid: int


@dataclasses.dataclass(slots=True)
class _Standing:
    case: Case
    since: float
    told: Verdict | None
    """The last verdict that was news, or was too plain to be."""


class Standings:
    """The cases of all processes."""

    def __init__(self) -> None:
        self._standings: dict[Hashable, _Standing] = {}

    def update(self, cases: Mapping[Hashable, Case], now: float) -> list[tuple[Hashable, Verdict | None]]:
        """Take in the cases of now, and forget who is gone; returns whose verdict is news, and what it was before."""
        news = []
        self._standings = {key: value for key, value in self._standings.items() if key in cases}
        for key, case in cases.items():
            standing = self._standings.setdefault(key, _Standing(case, now, None))
            if standing.case != case:
                standing.case, standing.since = case, now
            verdict = case.verdict
            if standing.told is verdict or (verdict is Verdict.DEAD and now - standing.since < LINGER_SECONDS):
                continue
            if standing.told is not None or verdict not in _NO_NEWS_AT_FIRST:
                news.append((key, standing.told))
            standing.told = verdict
        return news

    def stood(self, key: Hashable, now: float) -> float:
        """Tell how many seconds the case has stood unchanged."""
        standing = self._standings.get(key)
        return 0.0 if standing is None else now - standing.since
