"""Judges what dead engines left: processes, shared memory, directories. Pure.

Nobody is called an orphan here: the proof takes the watchdog, which holds parents while they live. What looks like one
is told, with the command that can prove it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from vllmd.doctor.finding import Finding, counted, ok, size, unknown, warn

_NAMED = 5
"""How many are named before the rest is counted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process with vLLM's name."""

    pid: int
    name: str
    state: str
    """The letter of `/proc/PID/stat`."""
    adopted: bool
    """Its parent is one that adopts orphans, and not whoever started it."""
    dead: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A file of shared memory."""

    path: str
    size_bytes: int
    engine: str | None
    """The engine of ours by its name; `None` for another program's."""
    used: bool | None
    """Whether somebody has it mapped, or its engine is there; `None` if not all who may can be seen."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """An engine's directory."""

    path: str
    owned: bool | None
    """Whether a daemon, or its own worker, holds its lock; `None` if that can't be seen."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LeftoverFacts:
    """All that has vLLM's or our name; what can't be listed is `None`."""

    processes: Sequence[Process] | None
    segments: Sequence[Segment] | None
    directories: Sequence[Directory] | None
    serving: bool = False
    """Whether a daemon runs: then it deals with what is its own."""


def judge(facts: LeftoverFacts) -> Iterator[Finding]:
    """Say what looks left, and how to be rid of it."""
    yield _processes(facts)
    yield _segments(facts)
    yield _directories(facts)


def _processes(facts: LeftoverFacts) -> Finding:
    if facts.processes is None:
        return unknown("processes", "/proc can't be read")
    living = [one for one in facts.processes if not one.dead]
    stuck = [one for one in living if one.state == "D"]
    alone = [one for one in living if one.adopted]
    zombies = len(facts.processes) - len(living)
    if alone:
        found = f"without the parent that started them: {_named([f'{one.name} {one.pid}' for one in alone])}"
        return warn("processes", found, _who_proves(facts))
    if stuck:
        found = f"waiting in the kernel: {_named([f'{one.name} {one.pid}' for one in stuck])}"
        return warn("processes", found, "If they stay so, the driver is stuck: see `dmesg`; only a reboot ends them.")
    if zombies:
        found = f"{zombies} of vLLM's dead, and not collected by their parents"
        return warn("processes", found, "They hold no memory; they go when their parents do (`ps -eo pid,ppid,stat`).")
    return ok("processes", f"{len(living)} of vLLM's, none without a parent" if living else "none of vLLM's")


def _who_proves(facts: LeftoverFacts) -> str:
    if facts.serving:
        return "`vllmd-cli ps` says whose they are and why, `vllmd-cli reclaim` what can be proven."
    return "Start vllmd: its watchdog proves which are orphans, and kills those. Or kill them by pid."


def _segments(facts: LeftoverFacts) -> Finding:
    if facts.segments is None:
        return unknown("shared memory", "where it is kept can't be read")
    left = [one for one in facts.segments if one.used is False]
    unseen = [one for one in facts.segments if one.used is None]
    if left:
        total = size(sum(one.size_bytes for one in left))
        found = f"{counted(len(left), 'segment')} that nobody has, {total}: {_named([one.path for one in left])}"
        return warn("shared memory", found, f"`rm {left[0].path}`{' and so on' if len(left) > 1 else ''}.")
    if unseen:
        found = f"who has {counted(len(unseen), 'segment')} can't be seen"
        return unknown(
            "shared memory",
            found,
            "Root sees more processes, if not those that hide from root, too; `fuser PATH` names who has one.",
        )
    return ok(
        "shared memory", f"{counted(len(facts.segments), 'segment')}, in use" if facts.segments else "nothing left"
    )


def _directories(facts: LeftoverFacts) -> Finding:
    if facts.directories is None:
        return unknown("directories", "those of engines can't be listed by this user")
    left = [one.path for one in facts.directories if one.owned is False]
    if any(one.owned is None for one in facts.directories) and not left:
        return unknown("directories", f"who owns {len(facts.directories)} can't be seen")
    if left:
        todo = "Start vllmd: it takes over engines that live, and removes what is left of others."
        return warn("directories", f"of engines that no daemon owns: {_named(left)}", todo)
    return ok(
        "directories", f"{counted(len(facts.directories), 'engine')}, owned" if facts.directories else "nothing left"
    )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
