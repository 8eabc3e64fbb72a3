from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.fakes.processes import ends, processes_of
from vllmd.worker.fake_backend import FakeOptions, start_core
from vllmd.worker.processes import Identity, read_stat
from vllmd.worker.spec import ENGINE_ID_VARIABLE
from vllmd.worker.tree import Tree

PARENT = """
import sys
from vllmd.worker.fake_backend import FakeOptions, start_core
core = start_core(sys.argv[1], FakeOptions(leave_core=sys.argv[2] == "1", shared_memory_bytes=0))
print(core.pid, flush=True)
core.wait()
"""
Start = Callable[[FakeOptions], Identity]


@pytest.fixture
def start(engine_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a core, which is all that its options say when it comes back."""
    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setenv(ENGINE_ID_VARIABLE, engine_id)

    def start(options: FakeOptions) -> Identity:
        started.append(start_core(engine_id, options))
        stat = read_stat(started[-1].pid)
        assert stat is not None
        return stat.identity

    yield start
    Tree(engine_id, None, None).kill(5.0)
    for core in started:
        core.wait()


def test_it_looks_like_engine_core_with_its_workers(start: Start, engine_id: str) -> None:
    """Whoever looks for vLLM by name finds the names that vLLM's processes have, cut at 15 bytes as there."""
    start(FakeOptions(workers=2))

    assert sorted(entry.rpartition(" ")[0] for entry in processes_of(engine_id)) == [
        "VLLM::EngineCor",
        "VLLM::Worker_TP",
        "VLLM::Worker_TP",
    ]


def test_it_ends_by_sigterm(start: Start) -> None:
    """As an idle EngineCore does."""
    core = start(FakeOptions())
    os.kill(core.pid, signal.SIGTERM)

    assert ends(core, 5.0)


def test_it_shrugs_off_sigterm_when_told_so(start: Start) -> None:
    """As one does that is stuck in a step: the signal is discarded, so nothing is left to act on it later."""
    core = start(FakeOptions(ignore_sigterm=True))
    os.kill(core.pid, signal.SIGTERM)
    ignored = next(
        line for line in pathlib.Path(f"/proc/{core.pid}/status").read_text().splitlines() if "SigIgn" in line
    )

    assert int(ignored.split()[1], 16) & 1 << signal.SIGTERM - 1
    assert not ends(core, 0.05)


@pytest.mark.parametrize("escape", [True, False])
def test_it_leaves_the_session_only_when_told_so(start: Start, escape: bool) -> None:
    """vLLM never does, but somebody's plugin may."""
    core = start(FakeOptions(escape=escape))
    stat = read_stat(core.pid)

    assert stat is not None
    assert (stat.session == core.pid) is escape


def test_it_makes_shared_memory_under_the_name_of_its_engine(start: Start, engine_id: str) -> None:
    """Its size is as told; after a kill it stays, as vLLM's does."""
    core = start(FakeOptions(shared_memory_bytes=4096))
    (path,) = pathlib.Path("/dev/shm").glob(f"psm_vllmd-{engine_id}_*")
    os.kill(core.pid, signal.SIGKILL)
    assert ends(core, 5.0)

    assert path.stat().st_size == 4096


@pytest.mark.parametrize("leave_core", [True, False])
def test_it_dies_with_its_parent_unless_it_is_to_be_left_behind(engine_id: str, leave_core: bool) -> None:
    """With PDEATHSIG as the real one, or without as one in which our plugin failed."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, engine_id, str(int(leave_core))],
        env=os.environ | {ENGINE_ID_VARIABLE: engine_id},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    stat = read_stat(int(parent.stdout.readline()))
    assert stat is not None
    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert ends(stat.identity, 0.1 if leave_core else 5.0) is not leave_core
