from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

import pytest

from tests.fakes.foreign import Foreign, stat_of
from tests.fakes.processes import Family
from vllmd.engines.containment import Containment
from vllmd.watchdog.gather import Gatherer
from vllmd.watchdog.observe import Observer
from vllmd.watchdog.parents import Fate
from vllmd.watchdog.verdicts import Facts, Kin
from vllmd.worker.processes import Identity


def gather(
    *pids: int,
    root: pathlib.Path = pathlib.Path("/nowhere"),
    containment: Containment | None = None,
    fates: Mapping[Identity, Fate] | None = None,
) -> dict[int, Facts]:
    """Gather the facts on processes; *fates* are those of their parents, by child."""
    observer = Observer()
    gatherer = Gatherer(root, containment or Containment(None), (fates or {}).get)
    return gatherer.facts(observer.look(set(pids)), observer)


def test_a_core_of_another_program(runtime: pathlib.Path) -> None:
    """Its parent, its name space, and who is above; nobody looks at its connections while its parent lives."""
    with Foreign("serving", runtime) as foreign:
        facts = gather()
        core, worker = facts[foreign.core.pid], facts[foreign.worker.pid]

        assert core.parent is not None
        assert core.parent.kin.pid == foreign.launcher.pid
        assert (core.parent.reaper, core.parent.same_session) == (False, True)
        assert (core.own_namespace, core.engine, core.peers, core.above) == (True, "", None, None)
        assert worker.above == foreign.core.pid
        assert core.owner == f"user {os.getuid()}"


def test_connections_count_for_the_whole_tree(runtime: pathlib.Path) -> None:
    """Once its parent is dead, who else is at the other end is found out."""
    with Foreign("shared", runtime) as foreign:
        foreign.lose_launcher()
        fate = Fate(foreign.launcher, "python", alive=False)
        core = gather(fates={foreign.core: fate})[foreign.core.pid]

        assert core.dead_parent == Kin(foreign.launcher.pid, "python")
        assert core.peers is not None
        assert [(peer.who, peer.zmq) for peer in core.peers] == [
            (f"pid {foreign.client.pid} ({stat_of(foreign.client.pid).name})", True)
        ]


def test_who_was_left_behind_too_is_no_user(runtime: pathlib.Path) -> None:
    """A coordinator that has lost the same launcher serves nobody; an API server does, with or without one."""
    for name, counts in (("VLLM::DPCoordina", 0), ("VLLM::APIServer", 1)):
        with Foreign("shared", runtime, client_name=name) as foreign:
            foreign.leave_to_pid_1()
            core = gather()[foreign.core.pid]

            assert core.peers is not None
            assert len(core.peers) == counts


def test_ours_are_known_by_marker_and_directory(engine_id: str, runtime: pathlib.Path) -> None:
    """The directory has to be the engine's own below our root: other daemons have engines of the same name."""
    with Family("calm", engine_id, directory=runtime / engine_id) as family:
        pid = family.child.pid

        assert gather(pid, root=runtime)[pid].engine == engine_id
        assert gather(pid, root=runtime / "other")[pid].engine == ""


@pytest.mark.parametrize("name", ["../x", "", "UPPER", "a" * 25])
def test_a_marker_that_can_be_no_engines_is_none(name: str, runtime: pathlib.Path) -> None:
    """An id becomes part of the path of what is removed."""
    with Family("calm", name, directory=runtime / name) as family:
        assert gather(family.child.pid, root=runtime)[family.child.pid].engine == ""


def test_ours_are_known_by_their_cgroup(engine_id: str, cgroups: Containment) -> None:
    """Without marker and session, too."""
    with Family("naked", engine_id, cgroups.make(engine_id)) as family:
        assert gather(family.child.pid, containment=cgroups)[family.child.pid].engine == engine_id


def test_what_only_nvml_knows() -> None:
    """Whether that means anything depends on whose pids we see."""
    facts = gather(2**22 - 1)[2**22 - 1]

    assert not facts.found
    assert facts.host_pids == Observer().host_pids
