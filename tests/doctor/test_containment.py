from __future__ import annotations

import dataclasses

from tests.doctor.judged import by_check, levels
from vllmd.doctor.containment import CgroupFacts, judge

MEMORY = frozenset({"cpu", "memory", "pids"})
GOOD = CgroupFacts(
    wanted="auto", own="/sys/fs/cgroup/system.slice/vllmd.service", made=True, controllers=MEMORY, unit="vllmd.service"
)


def test_a_delegated_cgroup() -> None:
    """It is told where it is, and which controllers it has."""
    found = by_check(judge(GOOD))

    assert levels(judge(GOOD)) == {"cgroups": "ok", "controllers": "ok"}
    assert "in vllmd.service (delegated" in found["cgroups"].found
    assert found["controllers"].found == "cpu, memory, pids"


def test_where_none_can_be_made_the_configuration_decides() -> None:
    """auto does without, cgroup insists, session never wanted one."""
    wanted = {kind: dataclasses.replace(GOOD, wanted=kind, made=False) for kind in ("auto", "cgroup", "session")}

    assert [levels(judge(facts))["cgroups"] for facts in wanted.values()] == ["warn", "fail", "ok"]


def test_the_way_out_depends_on_where_it_runs() -> None:
    """Inside the unit it is the unit's, outside it is the service, without v2 it is the host's."""
    closed = dataclasses.replace(GOOD, made=False)
    todos = [
        by_check(judge(facts))["cgroups"].todo
        for facts in (closed, dataclasses.replace(closed, unit=None), dataclasses.replace(closed, own=None))
    ]

    assert "Delegate=yes, and no ProtectControlGroups" in todos[0]
    assert "systemd-run" in todos[1]
    assert "cgroup2" in todos[2]


def test_a_limit_of_memory_needs_its_controller() -> None:
    """Without a limit no controller is missed."""
    bare = dataclasses.replace(GOOD, controllers=frozenset({"hugetlb"}))
    unread = dataclasses.replace(GOOD, controllers=None)

    assert levels(judge(bare))["controllers"] == "ok"
    assert levels(judge(unread))["controllers"] == "unknown"
    assert levels(judge(dataclasses.replace(bare, memory_max=1 << 36)))["controllers"] == "fail"
    assert levels(judge(dataclasses.replace(unread, memory_max=1 << 36)))["controllers"] == "fail"
    assert levels(judge(dataclasses.replace(GOOD, memory_max=1 << 36)))["controllers"] == "ok"
