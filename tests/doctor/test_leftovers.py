from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.doctor.judged import by_check, levels
from vllmd.doctor.leftovers import Directory, LeftoverFacts, Process, Segment, judge

CORE = Process(pid=7, name="VLLM::EngineCor", state="S", adopted=False)
SEGMENT = Segment(path="/dev/shm/psm_1", size_bytes=1 << 20, engine=None, used=True)
CLEAN = LeftoverFacts(processes=(CORE,), segments=(SEGMENT,), directories=(Directory(path="/run/e/a", owned=True),))


def core(**changes: Any) -> tuple[Process, ...]:
    """One process, but for something."""
    return (dataclasses.replace(CORE, **changes),)


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({}, "processes", "ok"),
        ({"processes": ()}, "processes", "ok"),
        ({"processes": core(adopted=True)}, "processes", "warn"),
        ({"processes": core(state="D")}, "processes", "warn"),
        ({"processes": core(state="Z", dead=True)}, "processes", "warn"),
        ({"processes": None}, "processes", "unknown"),
        ({"segments": (dataclasses.replace(SEGMENT, used=False),)}, "shared memory", "warn"),
        ({"segments": (dataclasses.replace(SEGMENT, used=None),)}, "shared memory", "unknown"),
        ({"segments": ()}, "shared memory", "ok"),
        ({"segments": None}, "shared memory", "unknown"),
        ({"directories": (Directory(path="/run/e/b", owned=False),)}, "directories", "warn"),
        ({"directories": (Directory(path="/run/e/b", owned=None),)}, "directories", "unknown"),
        ({"directories": ()}, "directories", "ok"),
        ({"directories": None}, "directories", "unknown"),
    ],
)
def test_what_looks_left(changes: dict[str, Any], check: str, level: str) -> None:
    """Nothing of it keeps a daemon from starting, so nothing fails."""
    found = levels(judge(dataclasses.replace(CLEAN, **changes)))

    assert found.pop(check) == level
    assert set(found.values()) == {"ok"}


def test_who_can_prove_an_orphan() -> None:
    """A daemon that runs is asked; else one has to be started, since the doctor proves nothing."""
    left = dataclasses.replace(CLEAN, processes=core(adopted=True))
    here = by_check(judge(dataclasses.replace(left, serving=True)))["processes"]

    assert "VLLM::EngineCor 7" in here.found
    assert "vllmd-cli ps" in here.todo
    assert "Start vllmd" in by_check(judge(left))["processes"].todo


def test_many_are_counted() -> None:
    """A line stays a line."""
    many = tuple(dataclasses.replace(CORE, pid=pid, adopted=True) for pid in range(10, 22))

    assert "and 7 more" in by_check(judge(dataclasses.replace(CLEAN, processes=many)))["processes"].found
