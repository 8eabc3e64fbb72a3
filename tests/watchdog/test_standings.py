from __future__ import annotations

from vllmd.watchdog.standings import LINGER_SECONDS, Case, Standings
from vllmd.watchdog.verdicts import Verdict

ORPHAN, SUSPECT, DEAD = (Case(verdict, 1) for verdict in (Verdict.FOREIGN_ORPHAN, Verdict.SUSPECT, Verdict.DEAD))
OWNED, FOREIGN = Case(Verdict.OWNED, 9), Case(Verdict.FOREIGN, 9)


def test_a_case_stands_until_anything_of_it_changes() -> None:
    """Another verdict or another parent begins anew; who is gone is forgotten."""
    standings = Standings()
    standings.update({5: ORPHAN}, 0.0)
    standings.update({5: ORPHAN}, 7.0)
    first = standings.stood(5, 9.0)
    standings.update({5: Case(Verdict.FOREIGN_ORPHAN, 2)}, 10.0)
    adopted = standings.stood(5, 12.0)
    standings.update({}, 13.0)
    standings.update({5: ORPHAN}, 14.0)

    assert (first, adopted, standings.stood(5, 15.0)) == (9.0, 2.0, 1.0)
    assert standings.stood(6, 15.0) == 0.0


def test_news_is_told_once() -> None:
    """The first verdict, if it is not plain, and each other one after it."""
    standings = Standings()
    cases = [SUSPECT, SUSPECT, ORPHAN, ORPHAN, SUSPECT]

    news = [standings.update({5: case}, float(now)) for now, case in enumerate(cases)]

    assert news == [[(5, None)], [], [(5, Verdict.SUSPECT)], [], [(5, Verdict.FOREIGN_ORPHAN)]]


def test_what_is_plain_is_no_news_at_first() -> None:
    """Engines of ours come and go, and so do other programs."""
    standings = Standings()

    assert standings.update({5: OWNED, 6: FOREIGN}, 0.0) == []
    assert standings.update({5: Case(Verdict.ORPHAN, 9), 6: FOREIGN}, 1.0) == [(5, Verdict.OWNED)]


def test_what_dies_rightly_is_no_news() -> None:
    """NVML lists a process some seconds longer than it lives; only if it stays is that worth a word."""
    standings = Standings()
    standings.update({5: OWNED}, 0.0)

    assert standings.update({5: DEAD}, 1.0) == []
    assert standings.update({5: DEAD}, 1.0 + LINGER_SECONDS) == [(5, Verdict.OWNED)]
    assert standings.update({5: DEAD}, 2.0 + LINGER_SECONDS) == []
