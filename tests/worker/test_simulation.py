from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.fakes.processes import Family, ends, kill
from vllmd.worker.processes import Identity
from vllmd.worker.simulation import (
    CLAIMS,
    GHOSTS,
    GPUS,
    Memory,
    OutOfMemory,
    claim,
    held,
    lives,
    name_of,
    own_identity,
    publish,
    read_gpus,
)

GIB = 1 << 30
A, B = "GPU-SIM-A", "GPU-SIM-B"
MEMORY = {A: Memory(10 * GIB, GIB), B: Memory(20 * GIB, 0)}

GREEDY = """
import pathlib, sys
from vllmd.worker.simulation import OutOfMemory, claim
sys.stdin.readline()
try:
    claim(pathlib.Path(sys.argv[1]), {"GPU-SIM-A": 4 << 30})
    print("got it", flush=True)
except OutOfMemory:
    print("too late", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def simulation(tmp_path: pathlib.Path) -> pathlib.Path:
    """The directory of a simulation with two GPUs."""
    publish(tmp_path / "sim", MEMORY)
    return tmp_path / "sim"


def test_the_gpus_are_in_a_file_for_whoever_claims(simulation: pathlib.Path) -> None:
    """In bytes, by UUID; the directory is nobody else's."""
    assert (simulation / GPUS).read_text() == (
        f'{{"{A}":{{"total_bytes":{10 * GIB},"reserved_bytes":{GIB}}},'
        f'"{B}":{{"total_bytes":{20 * GIB},"reserved_bytes":0}}}}'
    )
    assert read_gpus(simulation) == MEMORY
    assert simulation.stat().st_mode & 0o777 == 0o700


def test_a_claim_is_a_file_named_after_its_process(simulation: pathlib.Path) -> None:
    """This one, if none is named; the next claim takes the place of the last."""
    claim(simulation, {A: 1, B: 2})
    claim(simulation, {A: 3})

    assert [path.name for path in (simulation / CLAIMS).iterdir()] == [name_of(own_identity())]
    assert held(simulation / CLAIMS) == {own_identity(): {A: 3}}
    assert own_identity().pid == os.getpid()


def test_a_claim_that_does_not_fit_is_refused_in_the_words_of_pytorch(simulation: pathlib.Path) -> None:
    """The whole of it, on all GPUs; the process still holds what it held."""
    with Family("calm") as family:
        claim(simulation, {A: 6 * GIB}, family.leader)
        claim(simulation, {A: 2 * GIB})
        with pytest.raises(OutOfMemory) as refused:
            claim(simulation, {B: GIB, A: 4 * GIB})
        claim(simulation, {A: 3 * GIB})

        assert str(refused.value) == (
            "CUDA out of memory. Tried to allocate 4.00 GiB. GPU 1 has a total capacity of 10.00 GiB "
            "of which 3.00 GiB is free."
        )
        assert held(simulation / CLAIMS) == {family.leader: {A: 6 * GIB}, own_identity(): {A: 3 * GIB}}


def test_what_the_dead_held_is_free(simulation: pathlib.Path) -> None:
    """Before anybody has cleaned up after them; what a fault keeps is not."""
    with Family("calm") as family:
        claim(simulation, {A: 9 * GIB}, family.leader)
        kill(family.leader)
        assert ends(family.leader, 5.0)
        claim(simulation, {A: 9 * GIB})
        (simulation / GHOSTS / name_of(family.leader)).write_text(f'{{"{A}": {GIB}}}')

        with pytest.raises(OutOfMemory, match=r"of which 8\.00 GiB is free"):
            claim(simulation, {A: 9 * GIB})


def test_the_dead_claim_nothing(simulation: pathlib.Path) -> None:
    """Nor does a process whose pid somebody else has by now, or one where there is no simulation any more."""
    with Family("calm") as family:
        kill(family.leader)
        assert ends(family.leader, 5.0)
        with pytest.raises(ProcessLookupError):
            claim(simulation, {A: 1}, family.leader)
        with pytest.raises(ProcessLookupError):
            claim(simulation, {A: 1}, Identity(family.child.pid, family.child.start_ticks + 1))

    with pytest.raises(FileNotFoundError):
        claim(simulation / "gone", {A: 1})
    assert held(simulation / CLAIMS) == {}
    assert held(simulation / "gone") == {}


def test_no_two_get_the_same_memory(simulation: pathlib.Path) -> None:
    """Of six that want four of nine GiB at once, two get them."""
    argv = [sys.executable, "-c", GREEDY, str(simulation)]
    greedy = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(6)
    ]
    for process in greedy:
        assert process.stdin is not None
        process.stdin.write("go\n")
    answers = [process.stdout.readline() for process in greedy if process.stdout is not None]
    for process in greedy:
        process.communicate("end\n", timeout=20)

    assert sorted(answers) == ["got it\n"] * 2 + ["too late\n"] * 4


def test_a_zombie_lives_while_it_has_a_thread(simulation: pathlib.Path) -> None:
    """It holds all that it had until the last one has ended."""
    with Family("headless") as family:
        assert lives(family.child)
        kill(family.leader)
        assert ends(family.leader, 5.0)
        assert not lives(family.leader)


def test_who_dies_while_it_claims_leaves_nothing_among_the_claims(simulation: pathlib.Path) -> None:
    """Killed when its file is written and not yet called what it is to be called."""
    dies = "import os, pathlib, signal; pathlib.Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
    call = f"from vllmd.worker.simulation import claim; claim(pathlib.Path({str(simulation)!r}), {{{A!r}: 1}})"
    done = subprocess.run([sys.executable, "-c", dies + call], check=False)

    assert done.returncode == -9
    assert list((simulation / CLAIMS).iterdir()) == []
    claim(simulation, {A: 9 * GIB})
    assert list(held(simulation / CLAIMS).values()) == [{A: 9 * GIB}]
