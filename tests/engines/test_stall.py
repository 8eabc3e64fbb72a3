from __future__ import annotations

import pytest

from vllmd.engines.stall import Vitals, diagnose


@pytest.mark.parametrize(
    ("vitals", "found"),
    [
        (Vitals(0, 0.0, None), None),
        (Vitals(0, 0.0, 995.0), None),
        (Vitals(3, 950.0, None), None),
        (Vitals(3, 899.0, None), "3 requests run, and for 101 s there was no token"),
        (Vitals(0, 0.0, 880.0), "a ping through EngineCore has had no answer for 120 s"),
        # A step that takes long answers no ping, but its tokens come.
        (Vitals(3, 999.0, 950.0), None),
    ],
)
def test_an_engine_hangs_when_what_it_should_do_does_not_come(vitals: Vitals, found: str | None) -> None:
    """An idle engine hangs when it does not answer, a busy one when it makes no token."""
    assert diagnose(vitals, now=1000.0, timeout=100.0) == found
