from __future__ import annotations

import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.fakes.foreign import Foreign, send, stat_of
from tests.fakes.processes import Family, ends, kill
from vllmd.watchdog import observe
from vllmd.watchdog.observe import Observer

SEEN_BY_NOBODY = """
import os, sys
from vllmd.watchdog import observe
os.setuid(65534)
pid = int(sys.argv[1])
found = observe.details(pid)
print(found.uid, found.pid_namespace, observe.may_kill(found.uid), observe.may_kill(65534), observe.may_kill(None))
"""


def test_only_some_are_looked_at_closely(runtime: pathlib.Path) -> None:
    """Those on a GPU and those called like vLLM's; of the others there is their stat."""
    with Foreign("serving", runtime) as foreign, Family("calm") as other:
        look = Observer().look({other.leader.pid, 2**22 - 1})

        assert {foreign.core.pid, foreign.worker.pid, other.leader.pid} <= look.seen.keys()
        assert other.child.pid not in look.seen
        assert look.stats[other.child.pid].identity == other.child
        assert look.missing == {2**22 - 1}
        assert {foreign.core, foreign.worker} <= {stat.identity for stat in look.called_like_vllm}


def test_a_zombie_counts_only_while_nvml_lists_it(runtime: pathlib.Path) -> None:
    """Else it holds nothing, whatever it was called."""
    with Foreign("serving", runtime) as foreign:
        send(foreign.launcher, signal.SIGSTOP)  # so that it collects no child
        kill(foreign.core)
        assert ends(foreign.core, 5.0)

        assert foreign.core.pid not in Observer().look(()).seen
        assert foreign.core.pid in Observer().look({foreign.core.pid}).seen


def test_what_is_read_of_a_process(runtime: pathlib.Path, engine_id: str) -> None:
    """Whose it is, its name spaces and its marker."""
    with Family("calm", engine_id, directory=runtime) as family:
        found = observe.details(family.child.pid)

        assert found.uid == os.getuid()
        assert found.pid_namespace == os.stat("/proc/self/ns/pid").st_ino
        assert found.net_namespace == os.stat("/proc/self/ns/net").st_ino
        assert found.marker == (engine_id, str(runtime))


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    """And nothing is guessed."""
    with Family("calm") as family:
        pass

    assert observe.details(family.leader.pid) == observe.Details(None, None, None, None)
    assert observe.command(family.leader.pid) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else to try it")
def test_of_another_users_process_little_is_known() -> None:
    """Its name spaces can't be read, and it may not be signalled."""
    with Family("calm") as family:
        argv = [sys.executable, "-c", SEEN_BY_NOBODY, str(family.child.pid)]
        output = subprocess.check_output(argv, text=True, timeout=20)

    assert output.split() == ["0", "None", "False", "True", "False"]


def test_who_becomes_somebody_else_is_read_anew() -> None:
    """What is remembered is remembered of a process under one name."""
    observer = Observer()
    with Family("calm", "first") as family:
        before = observer.look({family.child.pid}).seen[family.child.pid].details
        again = observer.look({family.child.pid}).seen[family.child.pid].details

    assert before is again
    assert before.marker == ("first", "")
    assert family.child.pid not in observer.look(()).seen


def test_pid_1_adopts_and_others_do_not() -> None:
    """Any process may adopt orphans, and only of few it is known."""
    own = observe.details(os.getpid()).pid_namespace
    with Family("calm") as family:
        assert observe.adopts_orphans(stat_of(1), own)
        assert not observe.adopts_orphans(stat_of(family.leader.pid), own)


@pytest.mark.parametrize(("argument", "adopts"), [("--user", True), ("--system", False)])
def test_the_service_manager_of_a_user_adopts(argument: str, adopts: bool) -> None:
    """It is known by its name and its argument, in our own pid namespace alone."""
    code = "import pathlib; pathlib.Path('/proc/self/comm').write_text('systemd'); print(flush=True); input()"
    own = observe.details(os.getpid()).pid_namespace
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code, argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as fake:
        assert fake.stdout is not None
        fake.stdout.readline()
        stat = stat_of(fake.pid)
        found = [observe.adopts_orphans(stat, namespace) for namespace in (own, 1, None)]
        fake.communicate(b"\n")

    assert found == [adopts, False, False]


def test_the_time_of_the_boot() -> None:
    """It is in the past, and a process of now has started after it."""
    assert 0 < observe.boot_time() < time.time()


def test_a_look_at_300_processes_is_cheap() -> None:
    """Less than 20 ms of CPU, as it is done each second; the best of some looks, since others use this CPU too."""
    observer = Observer()
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(300)]
    try:
        look = observer.look(())
        costs = []
        for _ in range(10):
            start = time.thread_time()
            observer.look(())
            costs.append(time.thread_time() - start)
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()

    assert len(look.stats) > 300
    assert min(costs) < 0.020


def test_what_has_long_been_something_else_is_read_now_and_then_only() -> None:
    """Its end is seen at once all the same, and so is who is new."""
    observer = Observer(settled_seconds=0.0)
    with Family("calm") as old:
        looks = [observer.look(()).stats[os.getpid()] for _ in range(11)]
        kept = sum(one is two for one, two in itertools.pairwise(looks))
        with Family("named") as new:
            seen = observer.look(()).seen
            assert new.child.pid in seen
    gone = observer.look(()).stats

    assert kept >= 8
    assert old.leader.pid not in gone
    assert new.leader.pid not in gone
