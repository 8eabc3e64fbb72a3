from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from vllmd.watchdog.sockets import Connection
from vllmd.watchdog.users import users
from vllmd.worker.processes import Identity

ELSEWHERE = Connection(None, "", host="10.0.0.2")
CORES = {1: (1, 2), 3: (3, 4), 5: (5,)}
"""Trees that were left behind, by their uppermost processes. 9 is anybody else."""


def to(pid: int) -> Connection:
    """A connection with a process."""
    return Connection(Identity(pid, 1), "")


@pytest.mark.parametrize(
    ("links", "using"),
    [
        pytest.param({}, [], id="nobody"),
        pytest.param({1: [to(9)]}, [to(9)], id="somebody"),
        pytest.param({1: [to(3)], 3: [to(1)]}, [], id="another core that was left behind, too"),
        pytest.param({2: [to(4)], 4: [to(2)]}, [], id="its worker"),
        pytest.param({1: [to(3)], 3: [to(5)], 5: [to(1)]}, [], id="all in a ring"),
        pytest.param({1: [to(3)], 3: [to(1), to(9)]}, [to(9)], id="somebody, through another core"),
        pytest.param({2: [to(4)], 3: [to(5)], 5: [to(9)]}, [to(9)], id="somebody, through two others"),
        pytest.param({1: [to(3)], 4: [ELSEWHERE]}, [ELSEWHERE], id="somebody elsewhere, through another core"),
        pytest.param({1: [ELSEWHERE]}, [ELSEWHERE], id="somebody elsewhere"),
        pytest.param({1: [to(3)], 3: None}, None, id="who uses the other core can't be found out"),
        pytest.param({1: None}, None, id="it can't be found out"),
    ],
)
def test_the_table(links: Mapping[int, list[Connection] | None], using: list[Connection] | None) -> None:
    """Who uses core 1 with its worker 2, where others were left behind as well."""

    def outside(group: Collection[int]) -> list[Connection] | None:
        found = []
        for pid in group:
            connections = links.get(pid, [])
            if connections is None:
                return None
            found += [one for one in connections if one.holder is None or one.holder.pid not in group]
        return found

    def left_behind(pid: int) -> Collection[int]:
        return next((tree for tree in CORES.values() if pid in tree), ())

    assert users(CORES[1], outside, left_behind) == using
