"""Whose a process is, and why: the table of verdicts as a function of what was seen of the process.

A program that uses vLLM may die and leave vLLM's processes behind, with all of their GPU memory. Such a process looks
like any other core; what it lacks is somebody who answers for it. There are two proofs of that:

* its parent was seen alive and then dead, through a pidfd that we held meanwhile; and nobody holds the other end of
  its ZMQ sockets, which is how those who use a core talk to it (an API server outlives the launcher of both), or of
  its TCP connections, of which nothing tells whether they are ZMQ's;
* its parent is a process that adopts orphans, in our own pid namespace, that cannot have started it itself, and
  nobody holds the other end of any of its connections.

Anything less is no proof, and what could not be looked at least of all. In a container, the core of a program that
is well has parent 1, too.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Collection, Mapping
from typing import Literal

Policy = Literal["kill", "report", "ignore"]

_CORE_OR_WORKER = re.compile(r"VLLM::(EngineCor|Worker)")


class Verdict(enum.StrEnum):
    """Whose a process is; `proto/vllmd/v1/gpu.proto` says what each means."""

    OWNED = "OWNED"
    ORPHAN = "ORPHAN"
    FOREIGN_ORPHAN = "FOREIGN_ORPHAN"
    SUSPECT = "SUSPECT"
    DEAD = "DEAD"
    FOREIGN = "FOREIGN"


@dataclasses.dataclass(frozen=True, slots=True)
class Kin:
    """Another process that the verdict is about."""

    pid: int
    name: str

    def __str__(self) -> str:
        """Write it as reasons do."""
        return f"pid {self.pid}, {self.name}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The parent that a process has now."""

    kin: Kin
    reaper: bool
    """It adopts orphans: pid 1 or a `systemd --user`, in our own pid namespace."""
    same_session: bool
    """They are in one session: even a reaper may then have started it itself, as a container's first process does."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Somebody alive, outside of the tree, at the other end of a connection of the tree."""

    who: str
    """`pid 812 (python)`."""
    zmq: bool
    """The connection is one of ZMQ's over a Unix socket, as vLLM names them."""
    tcp: bool = False
    """It is one over TCP, which may be ZMQ's: nothing tells."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a verdict is based on."""

    pid: int
    name: str = ""
    """`comm`: at most 15 bytes."""
    found: bool = True
    """There is such a process in `/proc`."""
    host_pids: bool = True
    """`/proc` has the pids of the host, as NVML has; without that a pid that is not found says nothing."""
    ended: bool = False
    """It is a zombie."""
    killed: bool = False
    """It was sent SIGKILL, and has had the time to end."""
    engine: str = ""
    """The engine of ours whose marker it carries, or in whose cgroup it is."""
    own_namespace: bool | None = None
    """It is in our own pid namespace; `None` if that can't be read."""
    parent: Parent | None = None
    dead_parent: Kin | None = None
    """The parent that was seen alive and then dead."""
    peers: tuple[Peer, ...] | None = None
    """Of it and all below it; `None` if that can't be found out."""
    above: int | None = None
    """The nearest process above it that is called like a core or a worker."""
    reachable: bool = True
    """We may signal it."""
    owner: str = ""
    """Whose it is: `user 1000`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict."""

    verdict: Verdict
    reasons: tuple[str, ...]
    engine: str = ""
    reachable: bool = True


def is_core_or_worker(name: str) -> bool:
    """Tell whether a process is called like those of vLLM that hold GPU memory."""
    return _CORE_OR_WORKER.match(name) is not None


def judge(facts: Facts, living: Collection[str]) -> Judgement:
    """Judge one process by itself.

    Args:
        facts: what was seen of it.
        living: the ids of our engines that have not ended.
    """
    if not facts.found:
        return _unfound(facts)
    if facts.ended:
        return Judgement(Verdict.DEAD, ("it has ended, and its parent has yet to collect it",), facts.engine)
    if facts.killed:
        return Judgement(Verdict.DEAD, ("SIGKILL has not ended it: it is stuck in the kernel",), facts.engine)
    if facts.engine in living:
        return Judgement(Verdict.OWNED, (f"it is of engine {facts.engine}",), facts.engine)
    if facts.engine:
        return Judgement(Verdict.ORPHAN, (f"it is of engine {facts.engine}, which has ended",), facts.engine)
    if not is_core_or_worker(facts.name):
        return Judgement(Verdict.FOREIGN, ("it is another program's",))
    proven, reason = _proof(facts)
    if not proven:
        return Judgement(Verdict.SUSPECT, (reason,))
    reasons = (reason,) if facts.reachable else (reason, f"it is {facts.owner}'s, whom this daemon may not signal")
    return Judgement(Verdict.FOREIGN_ORPHAN, reasons, reachable=facts.reachable)


def judge_all(seen: Mapping[int, Facts], living: Collection[str]) -> dict[int, Judgement]:
    """Judge processes, of which those below an orphan share its fate: its tree is killed whole.

    Args:
        seen: what was seen of each, by pid.
        living: the ids of our engines that have not ended.
    """
    alone = {pid: judge(facts, living) for pid, facts in seen.items()}
    return {pid: _with_tree(facts, seen, alone) for pid, facts in seen.items()}


def top(pid: int, seen: Mapping[int, Facts], judged: Mapping[int, Judgement]) -> int:
    """Find the uppermost process of the tree of orphans that a process is in; itself, if there is none above it."""
    uppermost, passed = pid, {pid}
    above = seen[pid].above
    # A worker of an orphan has a living parent: by itself it is a suspect.
    while above is not None and above in seen and above not in passed:
        verdict = judged[above].verdict
        if verdict not in (Verdict.FOREIGN_ORPHAN, Verdict.SUSPECT):
            break
        uppermost = above if verdict is Verdict.FOREIGN_ORPHAN else uppermost
        passed.add(above)
        above = seen[above].above
    return uppermost


def outlook(
    judgement: Judgement,
    *,
    policy: Policy,
    holds: bool,
    busy: bool,
    asked: bool,
    stood: float = 0.0,
    grace: float = 0.0,
) -> tuple[bool, str]:
    """Tell whether a process is to be killed now, and what stands against it or will become of it.

    Args:
        judgement: the verdict on it.
        policy: what is done with orphans of other programs.
        holds: its tree holds memory on a GPU of ours. What does not is in nobody's way.
        busy: an engine is just starting or ending on a GPU of its.
        asked: an operator asks for it: then a report is not enough, and there is no grace.
        stood: seconds that the verdict has stood unchanged.
        grace: seconds that the verdict on another program's orphan has to stand.
    """
    match judgement.verdict:
        case Verdict.ORPHAN:
            return True, ""
        case Verdict.FOREIGN_ORPHAN if not judgement.reachable:
            return False, ""  # the reasons say so
        case Verdict.FOREIGN_ORPHAN if policy == "ignore" or (policy == "report" and not asked):
            return False, f"the policy is to {policy} such"
        case Verdict.FOREIGN_ORPHAN if not holds:
            return False, "it holds no memory on a GPU of this daemon's"
        case Verdict.FOREIGN_ORPHAN if busy:
            return False, "its turn comes when no engine starts or ends on its GPU"
        case Verdict.FOREIGN_ORPHAN if stood < grace and not asked:
            return False, f"it is killed in {grace - stood:.0f} s, if it stays as it is"
        case Verdict.FOREIGN_ORPHAN:
            return True, ""
        case _:
            return False, ""


def _unfound(facts: Facts) -> Judgement:
    if not facts.host_pids:
        reason = "its pid is the host's, and this daemon sees only those of its own pid namespace"
        return Judgement(Verdict.FOREIGN, (reason,))
    return Judgement(Verdict.DEAD, ("there is no such process any more, and NVML still lists it",))


def _with_tree(facts: Facts, seen: Mapping[int, Facts], alone: Mapping[int, Judgement]) -> Judgement:
    own = alone[facts.pid]
    uppermost = top(facts.pid, seen, alone)
    if uppermost == facts.pid or own.verdict not in (Verdict.SUSPECT, Verdict.FOREIGN, Verdict.FOREIGN_ORPHAN):
        return own
    orphan = alone[uppermost]
    kin = Kin(uppermost, seen[uppermost].name)
    return dataclasses.replace(orphan, reasons=(f"it is below an orphan ({kin})", *orphan.reasons))


def _proof(facts: Facts) -> tuple[bool, str]:
    """Look for a proof that nobody answers for a process; returns what it is, or else what is missing."""
    if facts.own_namespace is None:
        return False, "its pid namespace can't be read"
    if not facts.own_namespace:
        return False, "it is in another pid namespace, where who is well may have parent 1, too"
    if facts.dead_parent is not None:
        died = f"its parent ({facts.dead_parent}) has died"
        if facts.peers is None:
            return (
                False,
                f"{died}, but whether somebody holds the other end of its sockets can't be found out",
            )
        users = [peer for peer in facts.peers if peer.zmq or peer.tcp]
        if users:
            kinds = " and ".join(sorted({"TCP" if peer.tcp else "ZMQ" for peer in users}))
            return False, f"{died}, but {_hold([peer.who for peer in users])} of its {kinds} sockets"
        return True, f"its parent ({facts.dead_parent}) was seen alive and then dead"
    if facts.parent is None:
        return False, "its parent can't be read"
    if not facts.parent.reaper:
        return False, f"its parent ({facts.parent.kin}) is alive"
    reaper = f"its parent ({facts.parent.kin}) is a reaper"
    if facts.parent.same_session:
        return False, f"{reaper}, but of the same session: it may have started it itself"
    if facts.peers is None:
        return False, f"{reaper}, but whether somebody holds the other end of its sockets can't be found out"
    if facts.peers:
        return False, f"{reaper}, but {_hold([peer.who for peer in facts.peers])} of its sockets"
    return True, f"{reaper}, and nobody holds the other end of its sockets"


def _hold(users: Collection[str]) -> str:
    names = sorted(set(users))
    return f"{' and '.join(names)} {'holds' if len(names) == 1 else 'hold'} the other end"
