"""The short run of the chaos: `python -m tests.chaos` has the long one."""

from __future__ import annotations

import pytest

from tests.chaos.monkey import OPTIONS
from tests.chaos.rounds import run
from tests.host.running import home

SECONDS = 60.0


@pytest.mark.timeout(SECONDS + 400)
@pytest.mark.parametrize("containment", ["cgroup", "session"])
def test_nothing_is_left_whatever_happens(containment: str) -> None:
    """After each round of kills, hangs, failures and restarts: no process, no memory, no file, and every call ended."""
    with home(*OPTIONS, "--containment", containment) as place:
        found = run(place, seed=20, seconds=SECONDS)

    assert not found.wrong, str(found)
    assert found.rounds >= 2
    assert {"kill", "freeze", "load", "generate"} <= found.did.keys()
