from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from tests.fakes.processes import Family, ends, lives
from vllmd.worker import processes
from vllmd.worker.processes import Identity, hold, read_stat

REAPER = """
import json, os
from vllmd.engines.containment import become_subreaper
from vllmd.worker.processes import read_stat, reap_strangers

def orphan():
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        own = os.fork()
        if own:
            os.write(writer, b"%d" % own)
        os._exit(0)
    os.waitpid(parent, 0)
    pid = int(os.read(reader, 32))
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid

def there(*pids):
    return [read_stat(pid) is not None for pid in pids]

become_subreaper()
held, holds = os.pipe()
living = os.fork()
if living == 0:
    os.close(holds)
    os.read(held, 1)
    os._exit(3)
dead = os.fork()
if dead == 0:
    os._exit(7)
os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
strangers = orphan(), orphan()
reap_strangers([living, dead])
first = there(living, dead)
status = os.waitstatus_to_exitcode(os.waitpid(dead, 0)[1])
reap_strangers([living])
second = there(living, *strangers)
os.close(holds)
last = os.waitstatus_to_exitcode(os.waitpid(living, 0)[1])
reap_strangers([])
print(json.dumps([first, status, second, last]))
"""


def test_recycled_pid_is_never_signalled() -> None:
    """The same number with another start time is somebody else."""
    with Family("calm") as family:
        other = Identity(family.child.pid, family.child.start_ticks + 1)

        assert hold(other) is None
        assert not processes.terminate(other)
        assert lives(family.child)


def test_process_that_ended_is_not_held() -> None:
    """No descriptor is made for a pid that nobody has."""
    with Family("calm") as family:
        pass

    assert hold(family.leader) is None
    assert read_stat(family.leader.pid) is None


def test_terminate_asks_a_process_to_end() -> None:
    """SIGTERM reaches exactly the one that was named."""
    with Family("calm") as family:
        assert processes.terminate(family.leader)
        assert ends(family.leader, 5.0)
        assert family.popen.wait(5) == -signal.SIGTERM
        assert lives(family.child)


def test_name_with_spaces_and_parentheses_is_read_right() -> None:
    """A process may call itself what it likes and does not confuse what follows its name."""
    with Family("odd") as family:
        stat = read_stat(family.child.pid)

        assert stat is not None
        assert stat.name == ") R 1 (x) 2 3"
        assert stat.parent_pid == family.leader.pid
        assert stat.session == family.leader.pid
        assert stat.identity == family.child


def test_marker_is_unknown_where_there_is_none() -> None:
    """Neither a process without one nor a pid without a process has a marker."""
    with Family("calm") as family:
        assert processes.marker(family.child.pid) is None

    assert processes.marker(family.child.pid) is None


def test_reap_collects_dead_children_and_no_others(engine_id: str) -> None:
    """A child that lives is left alone, and so is what is not ours to ask after."""
    with Family("calm", engine_id) as dead, Family("calm", engine_id) as living:
        os.kill(dead.leader.pid, signal.SIGKILL)
        assert ends(dead.leader, 5.0)
        processes.reap([1, dead.leader.pid, living.leader.pid])

        assert read_stat(dead.leader.pid) is None
        assert lives(living.leader)


def test_boot_is_identified_the_same_way_all_along() -> None:
    """What one daemon noted the next can compare."""
    assert processes.boot_id() == processes.boot_id()
    assert len(processes.boot_id()) == 36


def test_dead_orphans_are_collected_and_known_children_are_not() -> None:
    """Whoever waits for a child gets its status, and no zombie stays of what an engine leaves behind."""
    argv = [sys.executable, "-c", REAPER]
    first, status, second, last = json.loads(subprocess.check_output(argv, timeout=20))

    assert first == [True, True]
    assert status == 7
    assert second == [True, False, False]
    assert last == 3
