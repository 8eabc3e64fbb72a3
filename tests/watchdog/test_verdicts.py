from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.watchdog.verdicts import Facts, Judgement, Kin, Parent, Peer, Policy, Verdict, judge, judge_all, outlook, top

INIT = Parent(kin=Kin(1, "systemd"), reaper=True, same_session=False)
SHELL = Parent(kin=Kin(77, "vllm"), reaper=False, same_session=True)
DEAD = Kin(77, "python")
CORE = Facts(pid=5, name="VLLM::EngineCor", own_namespace=True, parent=SHELL)
CLIENT = Peer(who="pid 812 (python)", zmq=True)
SERVICE = Peer(who="pid 900 (lmcache)", zmq=False)
ELSEWHERE = Peer(who="somebody at 10.0.0.2", zmq=False, tcp=True)


def facts(**values: Any) -> Facts:
    """A core with a living parent, but for what is given."""
    return dataclasses.replace(CORE, **values)


@pytest.mark.parametrize(
    ("seen", "verdict", "reason"),
    [
        (facts(engine="mine"), "OWNED", "it is of engine mine"),
        (facts(engine="old"), "ORPHAN", "it is of engine old, which has ended"),
        (facts(ended=True, engine="mine"), "DEAD", "it has ended"),
        (facts(killed=True), "DEAD", "stuck in the kernel"),
        (facts(found=False), "DEAD", "NVML still lists it"),
        (facts(found=False, host_pids=False), "FOREIGN", "sees only those of its own pid namespace"),
        (facts(name="python", parent=INIT, peers=()), "FOREIGN", "another program's"),
        (facts(name="VLLM::APIServer", parent=INIT, peers=()), "FOREIGN", "another program's"),
        (facts(name="VLLM", dead_parent=DEAD), "FOREIGN", "another program's"),
        (facts(), "SUSPECT", "its parent (pid 77, vllm) is alive"),
        (facts(parent=None), "SUSPECT", "its parent can't be read"),
        (facts(own_namespace=False, parent=INIT, peers=()), "SUSPECT", "another pid namespace"),
        (facts(own_namespace=False, dead_parent=DEAD), "SUSPECT", "another pid namespace"),
        (facts(own_namespace=None, dead_parent=DEAD), "SUSPECT", "namespace can't be read"),
        (facts(parent=INIT, peers=None), "SUSPECT", "can't be found out"),
        (
            facts(parent=INIT, peers=(CLIENT,)),
            "SUSPECT",
            "its parent (pid 1, systemd) is a reaper, but pid 812 (python) holds the other end of its sockets",
        ),
        (facts(parent=INIT, peers=(SERVICE, CLIENT)), "SUSPECT", "(python) and pid 900 (lmcache) hold the other end"),
        (facts(parent=dataclasses.replace(INIT, same_session=True), peers=()), "SUSPECT", "started it itself"),
        (facts(parent=INIT, peers=()), "FOREIGN_ORPHAN", "is a reaper, and nobody holds"),
        (facts(name="VLLM::Worker_TP", parent=INIT, peers=()), "FOREIGN_ORPHAN", "is a reaper, and nobody holds"),
        (
            facts(dead_parent=DEAD, peers=()),
            "FOREIGN_ORPHAN",
            "its parent (pid 77, python) was seen alive and then dead",
        ),
        (facts(dead_parent=DEAD, peers=(SERVICE,)), "FOREIGN_ORPHAN", "seen alive and then dead"),
        (
            facts(dead_parent=DEAD, peers=(CLIENT,)),
            "SUSPECT",
            "pid 812 (python) holds the other end of its ZMQ sockets",
        ),
        (
            facts(dead_parent=DEAD, peers=(ELSEWHERE,)),
            "SUSPECT",
            "has died, but somebody at 10.0.0.2 holds the other end of its TCP sockets",
        ),
        (facts(parent=INIT, peers=(ELSEWHERE,)), "SUSPECT", "but somebody at 10.0.0.2 holds the other end"),
        (facts(dead_parent=DEAD, peers=(CLIENT, ELSEWHERE, SERVICE)), "SUSPECT", "of its TCP and ZMQ sockets"),
        (facts(dead_parent=DEAD, parent=INIT, peers=None), "SUSPECT", "has died, but whether somebody holds"),
    ],
)
def test_the_table(seen: Facts, verdict: str, reason: str) -> None:
    """Each row of the design's table, and each thing that a proof may lack, with the reason that names it."""
    judged = judge(seen, {"mine"})

    assert judged.verdict == verdict
    assert reason in judged.reasons[0]


def test_whom_we_may_not_signal_is_only_reported() -> None:
    """Without the permission an orphan stays one, the reason is told, and nothing is tried."""
    judged = judge(facts(dead_parent=DEAD, peers=(), reachable=False, owner="user 1000"), ())

    assert judged.verdict is Verdict.FOREIGN_ORPHAN
    assert "user 1000's, whom this daemon may not signal" in judged.reasons[-1]
    assert outlook(judged, policy="kill", holds=True, busy=False, asked=True)[0] is False


def worker(pid: int, above: int, **values: Any) -> Facts:
    """A worker below a core."""
    parent = Parent(kin=Kin(above, "VLLM::EngineCor"), reaper=False, same_session=True)
    return Facts(pid=pid, name="VLLM::Worker_TP", own_namespace=True, parent=parent, above=above, **values)


def test_what_is_below_an_orphan_shares_its_fate() -> None:
    """The workers hold the memory, and their own parent, the core, is alive: the tree counts."""
    seen = {5: facts(dead_parent=DEAD, peers=()), 6: worker(6, 5), 7: dataclasses.replace(worker(7, 6), name="python")}

    judged = judge_all(seen, ())

    assert {one.verdict for one in judged.values()} == {Verdict.FOREIGN_ORPHAN}
    assert judged[6].reasons[0] == "it is below an orphan (pid 5, VLLM::EngineCor)"
    assert [top(pid, seen, judged) for pid in seen] == [5, 5, 5]


def test_what_is_below_a_living_core_is_left_alone() -> None:
    """And so is what is ours, or dead, below an orphan of somebody else."""
    seen = {5: facts(), 6: worker(6, 5), 8: facts(pid=8, dead_parent=DEAD, peers=()), 9: worker(9, 8, engine="mine")}

    judged = judge_all(seen, {"mine"})

    assert [judged[pid].verdict for pid in (5, 6, 9)] == [Verdict.SUSPECT, Verdict.SUSPECT, Verdict.OWNED]


def test_pids_that_changed_hands_make_no_endless_circle() -> None:
    """Two looks at a host that forks may not fit together."""
    seen = {5: facts(above=6, dead_parent=DEAD, peers=()), 6: facts(pid=6, above=5, dead_parent=DEAD, peers=())}

    judged = judge_all(seen, ())

    assert {one.verdict for one in judged.values()} == {Verdict.FOREIGN_ORPHAN}


@pytest.mark.parametrize(
    ("policy", "busy", "asked", "stood", "killed", "words"),
    [
        ("kill", False, False, 10.0, True, ""),
        ("kill", False, False, 7.0, False, "it is killed in 3 s"),
        ("kill", True, False, 99.0, False, "its turn comes"),
        ("kill", False, True, 0.0, True, ""),
        ("kill", True, True, 99.0, False, "its turn comes"),
        ("report", False, False, 99.0, False, "the policy is to report such"),
        ("report", False, True, 0.0, True, ""),
        ("ignore", False, True, 99.0, False, "the policy is to ignore such"),
    ],
)
def test_policy_and_grace(policy: Policy, busy: bool, asked: bool, stood: float, killed: bool, words: str) -> None:
    """What is killed at once, what later, and what never; and what is said about it."""
    orphan = judge(facts(dead_parent=DEAD, peers=()), ())

    now, prospect = outlook(orphan, policy=policy, holds=True, busy=busy, asked=asked, stood=stood, grace=10.0)

    assert now is killed
    assert words in prospect


def test_without_a_grace_a_report_is_still_only_a_report() -> None:
    """`--orphan-grace 0` does not turn one policy into another."""
    orphan = judge(facts(dead_parent=DEAD, peers=()), ())

    assert not outlook(orphan, policy="report", holds=True, busy=False, asked=False, stood=9.0, grace=0.0)[0]


def test_what_holds_no_memory_of_ours_is_in_nobodys_way() -> None:
    """An orphan without memory, or with memory only on GPUs that are not this daemon's, is not killed."""
    orphan = judge(facts(dead_parent=DEAD, peers=()), ())

    killed, prospect = outlook(orphan, policy="kill", holds=False, busy=False, asked=True)

    assert not killed
    assert "holds no memory" in prospect


def test_what_is_left_of_our_own_waits_for_nothing() -> None:
    """It has no grace, and no neighbour is worth waiting for."""
    assert outlook(judge(facts(engine="old"), ()), policy="ignore", holds=False, busy=True, asked=False, grace=10.0)[0]


KIN = st.builds(Kin, st.integers(1, 99), st.sampled_from(["python", "systemd", "bash"]))
ANY_FACTS = st.builds(
    Facts,
    pid=st.just(5),
    name=st.sampled_from(["VLLM::EngineCor", "VLLM::Worker", "VLLM::APIServer", "python", ""]),
    found=st.booleans(),
    host_pids=st.booleans(),
    ended=st.booleans(),
    killed=st.booleans(),
    engine=st.sampled_from(["", "mine", "old"]),
    own_namespace=st.none() | st.booleans(),
    parent=st.none() | st.builds(Parent, kin=KIN, reaper=st.booleans(), same_session=st.booleans()),
    dead_parent=st.none() | KIN,
    peers=st.none() | st.lists(st.sampled_from([CLIENT, SERVICE, ELSEWHERE]), max_size=2).map(tuple),
    above=st.none(),
    reachable=st.booleans(),
)


@given(ANY_FACTS)
def test_nobody_is_an_orphan_without_a_proof(seen: Facts) -> None:
    """Whatever else is true of it: the proof is there in full, every part of it is known, and it has a reason."""
    judged = judge(seen, {"mine"})

    assert judged.reasons
    if judged.verdict is Verdict.FOREIGN_ORPHAN:
        assert seen.found
        assert not seen.ended
        assert not seen.engine
        assert seen.own_namespace is True
        assert seen.name.startswith(("VLLM::EngineCor", "VLLM::Worker"))
        by_reaper = seen.parent is not None and seen.parent.reaper and not seen.parent.same_session
        assert seen.dead_parent is not None or (by_reaper and seen.peers == ())
        assert {CLIENT, ELSEWHERE}.isdisjoint(seen.peers or ())
    if judged.verdict is Verdict.ORPHAN:
        assert seen.engine == "old"


@given(ANY_FACTS, st.sampled_from(["kill", "report", "ignore"]), st.booleans(), st.booleans(), st.floats(0, 99))
def test_only_orphans_are_killed(seen: Facts, policy: Policy, busy: bool, asked: bool, stood: float) -> None:
    """No policy and no operator makes anything else of a suspect, a stranger, or an engine that lives."""
    judged = judge(seen, {"mine"})
    killed, _ = outlook(judged, policy=policy, holds=True, busy=busy, asked=asked, stood=stood, grace=10.0)

    if killed:
        assert judged.verdict in (Verdict.ORPHAN, Verdict.FOREIGN_ORPHAN)
        assert judged.reachable
    if killed and judged.verdict is Verdict.FOREIGN_ORPHAN:
        assert asked or stood >= 10.0


def test_verdicts_are_values() -> None:
    """They can be compared and kept."""
    assert judge(CORE, ()) == Judgement(Verdict.SUSPECT, ("its parent (pid 77, vllm) is alive",))
