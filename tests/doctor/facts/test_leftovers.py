from __future__ import annotations

import fcntl
import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

from vllmd.doctor.facts import leftovers

NAMED = "open('/proc/self/comm', 'w').write('VLLM::Doctored'); print(flush=True); input()"


def test_processes_by_vllms_names() -> None:
    """One whose parent is whoever started it is not adopted."""
    child = subprocess.Popen([sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        found = {one.pid: one for one in leftovers.vllm_processes() or ()}
        child.kill()

    assert found[child.pid].name == "VLLM::Doctored"
    assert not found[child.pid].adopted
    assert not found[child.pid].dead


def test_a_process_that_was_just_collected_is_not_told() -> None:
    """Every process is a zombie for a moment; only who still is after a pause is told as dead."""
    child = subprocess.Popen([sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        left = {one.pid: one.dead for one in leftovers.vllm_processes(pause=0.01) or ()}
        threading.Timer(0.1, child.wait).start()
        collected = [one.pid for one in leftovers.vllm_processes(pause=0.5) or ()]

    assert left[child.pid]
    assert child.pid not in collected


def test_shared_memory_that_somebody_has(tmp_path: Path) -> None:
    """Whoever has mapped it uses it; of what nobody has it is known, or not all processes could be seen."""
    for name in ("psm_mapped", "psm_vllmd-gone_1", "other"):
        (tmp_path / name).write_bytes(b"x" * 4096)
    with (tmp_path / "psm_mapped").open("r+b") as file, mmap.mmap(file.fileno(), 4096):
        found = {Path(one.path).name: one for one in leftovers.segments(tmp_path, tmp_path / "e") or ()}

    assert set(found) == {"psm_mapped", "psm_vllmd-gone_1"}
    assert (found["psm_mapped"].used, found["psm_mapped"].engine) == (True, None)
    assert found["psm_vllmd-gone_1"].used in (False, None)
    assert (found["psm_vllmd-gone_1"].engine, found["psm_vllmd-gone_1"].size_bytes) == ("gone", 4096)


def test_shared_memory_of_an_engine_that_is_there(tmp_path: Path) -> None:
    """Its directory says so, whether anybody has mapped it yet or not; semaphores are named likewise."""
    (tmp_path / "e/alive").mkdir(parents=True)
    for name in ("psm_vllmd-alive_1", "sem.mp-vllmd-alive_-x"):
        (tmp_path / name).touch()
    found = leftovers.segments(tmp_path, tmp_path / "e") or ()

    assert [(one.engine, one.used) for one in found] == [("alive", True), ("alive", True)]


def test_no_shared_memory(tmp_path: Path) -> None:
    """Nothing is left there, or there is no such place."""
    assert leftovers.segments(tmp_path, tmp_path) == ()
    assert leftovers.segments(tmp_path / "absent", tmp_path) is None


def test_directories_that_somebody_owns(tmp_path: Path) -> None:
    """Whoever holds the lock in it answers for an engine."""
    for name in ("owned", "left", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "left/owner.lock").touch()
    with (tmp_path / "owned/owner.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = {Path(one.path).name: one.owned for one in leftovers.directories(tmp_path) or ()}

    assert found == {"empty": False, "left": False, "owned": True}


def test_no_directories(tmp_path: Path) -> None:
    """No daemon has ever run here."""
    assert leftovers.directories(tmp_path / "absent") == ()


def test_all_of_it(tmp_path: Path) -> None:
    """It is looked at together, and told with whether a daemon runs."""
    facts = leftovers.look(tmp_path, serving=True)

    assert facts.serving
    assert facts.directories == ()
