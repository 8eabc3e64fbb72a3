from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.processes import Family, ends, kill
from vllmd.gpu.inventory import Gpu, GpuProcess, Inventory
from vllmd.gpu.products import inventory
from vllmd.gpu.simulation import Faults, GpuFaults, SimulatedGpus, inject, read_faults
from vllmd.worker.processes import Identity
from vllmd.worker.simulation import CLAIMS, FAULTS, GHOSTS, OutOfMemory, claim, held, name_of

GIB = 1 << 30
WISHED = inventory("2xRTX3090+nvlink")
GPUS = WISHED.gpus
FIRST, SECOND = (gpu.uuid for gpu in GPUS)
RESERVED = GPUS[0].used_bytes


class Host:
    """A simulated host in a directory of its own, whose clock stands still."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.now = 100.0
        self.start()

    def start(self) -> None:
        """Be what a daemon that starts makes of the directory."""
        self.gpus = SimulatedGpus(GPUS, self.directory, lambda: self.now, links=WISHED.links)

    def look(self, index: int = 0) -> Gpu:
        """One GPU as it is now."""
        return self.gpus.snapshot().gpus[index]

    def used(self) -> list[int]:
        """What is in use of each GPU beyond the driver's own."""
        return [gpu.used_bytes - RESERVED for gpu in self.gpus.snapshot().gpus]


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path / "sim")


def end(identity: Identity) -> None:
    """`kill -9`, and wait until it has worked."""
    kill(identity)
    assert ends(identity, 5.0)


def test_gpus_are_empty_but_for_the_drivers_own(host: Host) -> None:
    """Connected as was wished; that they are not real is said where the driver's version is shown."""
    assert host.gpus.snapshot() == Inventory(GPUS, "simulated", "", links=WISHED.links)


def test_what_a_process_claims_it_is_listed_with(host: Host) -> None:
    """On the GPUs that it claims, and on no other; a second claim takes the place of the first."""
    claim(host.directory, {FIRST: GIB, SECOND: GIB})
    claim(host.directory, {SECOND: 3 * GIB})

    assert host.look(0) == GPUS[0]
    assert host.look(1).processes == (GpuProcess(os.getpid(), 3 * GIB),)
    assert host.look(1).used_bytes == RESERVED + 3 * GIB
    assert host.look(1).free_bytes == GPUS[1].free_bytes - 3 * GIB
    assert host.look(1).unaccounted_bytes == RESERVED


def test_memory_of_a_killed_process_is_gone_with_it(host: Host) -> None:
    """At the first look, with its claim, although the zombie is still there: nobody has reaped it."""
    with Family("calm") as family:
        claim(host.directory, {FIRST: GIB}, family.leader)
        claim(host.directory, {FIRST: 2 * GIB}, family.child)
        before = host.used()
        end(family.leader)

        assert before == [3 * GIB, 0]
        assert host.used() == [2 * GIB, 0]
        assert list(held(host.directory / CLAIMS)) == [family.child]


def test_a_process_that_still_has_a_thread_has_its_memory(host: Host) -> None:
    """Its first thread has ended, so it looks like a zombie; the driver waits for the last one."""
    with Family("headless") as family:
        claim(host.directory, {FIRST: GIB}, family.child)

        assert host.used() == [GIB, 0]


def test_the_claim_of_a_recycled_pid_is_nobodys(host: Host) -> None:
    """The same number with another start time is somebody else."""
    with Family("calm") as family:
        other = Identity(family.leader.pid, family.leader.start_ticks - 1)
        (host.directory / CLAIMS / name_of(other)).write_text(f'{{"{FIRST}": 5}}')

        assert host.used() == [0, 0]
        assert not list((host.directory / CLAIMS).iterdir())


def test_memory_lingers_for_as_long_as_a_fault_says(host: Host) -> None:
    """It is in use by nobody from the death on, as after a kill that the driver is slow to notice."""
    with Family("calm") as family:
        claim(host.directory, {FIRST: GIB}, family.leader)
        inject(host.directory, Faults(linger_seconds=3.0))
        end(family.leader)
        lingering = host.look()
        host.now += 2.9
        late = host.used()
        host.now += 0.1

        assert (lingering.processes, lingering.unaccounted_bytes) == ((), RESERVED + GIB)
        assert late == [GIB, 0]
        assert host.used() == [0, 0]
        assert not held(host.directory / GHOSTS)


def test_memory_lingers_for_ever_until_the_fault_is_lifted(host: Host) -> None:
    """With the dead process in the list where that is wished, as of one that is stuck in the driver."""
    with Family("calm") as family:
        claim(host.directory, {FIRST: GIB}, family.leader)
        inject(host.directory, Faults(linger_seconds=None, keep_pid_listed=True))
        end(family.leader)
        first = host.look()
        host.now += 1e9
        last = host.look()
        (host.directory / FAULTS).unlink()

        assert first == last
        assert last.processes == (GpuProcess(family.leader.pid, GIB),)
        assert host.used() == [0, 0]


def test_a_fault_does_not_bring_memory_back_that_is_gone(host: Host) -> None:
    """Who was found dead before it was set has nothing to linger."""
    with Family("calm") as family:
        claim(host.directory, {FIRST: GIB}, family.leader)
        end(family.leader)
        host.used()
        inject(host.directory, Faults(linger_seconds=None))

        assert host.used() == [0, 0]


def test_faults_can_be_one_gpus(host: Host) -> None:
    """They take the place of what is set for all of them."""
    with Family("calm") as family:
        claim(host.directory, {FIRST: GIB, SECOND: GIB}, family.leader)
        inject(host.directory, Faults(linger_seconds=None, gpus={FIRST: GpuFaults(linger_seconds=5.0)}))
        end(family.leader)
        first = host.used()
        host.now += 5.0

        assert first == [GIB, GIB]
        assert host.used() == [0, GIB]


def test_lingering_memory_is_not_given_to_anybody(host: Host) -> None:
    """What a fault keeps in use is not free for the next process."""
    with Family("calm") as family:
        claim(host.directory, {FIRST: 20 * GIB}, family.leader)
        inject(host.directory, Faults(linger_seconds=None))
        end(family.leader)
        host.used()

        with pytest.raises(OutOfMemory, match=r"of which 3\.69 GiB is free"):
            claim(host.directory, {FIRST: 20 * GIB}, family.child)


def test_nvml_that_fails_says_nothing_of_the_gpus(host: Host) -> None:
    """That is not the same as a host without any."""
    inject(host.directory, Faults(nvml_error="Unknown Error"))

    assert host.gpus.snapshot() == Inventory(error="NVML: Unknown Error", available=False)


def test_a_lost_gpu_is_missing(host: Host) -> None:
    """With its links. The other keeps its index; with none left it says so."""
    inject(host.directory, Faults(lost=frozenset({FIRST})))
    one = host.gpus.snapshot()
    inject(host.directory, Faults(lost=frozenset({FIRST, SECOND})))

    assert (one.gpus, one.links) == (GPUS[1:], ())
    assert host.gpus.snapshot() == Inventory((), "simulated", "NVML finds no GPU")


def test_shares_can_be_hidden(host: Host) -> None:
    """As in a container: the memory is in use, and who has how much of it is unknown."""
    claim(host.directory, {FIRST: GIB})
    inject(host.directory, Faults(hidden_shares=True))

    assert host.look().processes == (GpuProcess(os.getpid(), None),)
    assert host.look().unaccounted_bytes is None
    assert host.used() == [GIB, 0]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", Faults()),
        ("{}", Faults()),
        ('{"linger_seconds": 2.5, "keep_pid_listed": true}', Faults(linger_seconds=2.5, keep_pid_listed=True)),
        ('{"linger_seconds": null, "lost": ["GPU-a"]}', Faults(linger_seconds=None, lost=frozenset({"GPU-a"}))),
        ('{"gpus": {"GPU-a": {"hidden_shares": true}}}', Faults(gpus={"GPU-a": GpuFaults(hidden_shares=True)})),
    ],
)
def test_faults_are_written_by_hand(tmp_path: pathlib.Path, text: str, faults: Faults) -> None:
    """With an editor or `echo`, which leaves the file empty for a moment; what is written is read back."""
    (tmp_path / FAULTS).write_text(text)
    by_hand = read_faults(tmp_path)
    inject(tmp_path, faults)

    assert by_hand == faults
    assert read_faults(tmp_path) == faults


@pytest.mark.parametrize("text", ['{"linger": 3}', '{"linger_seconds": -1}', "[]", '{"nvml_error": "x"'])
def test_faults_that_make_no_sense_are_told(host: Host, text: str) -> None:
    """Where an operator sees them: nobody waits for a fault that was misspelt."""
    (host.directory / FAULTS).write_text(text)
    inventory = host.gpus.snapshot()

    assert not inventory.available
    assert inventory.error.startswith("faults.json of the simulation: ")


def test_files_that_are_no_claims_are_passed_over(host: Host) -> None:
    """Half a write of a process that was killed in it, or what somebody put there."""
    for name, text in ((f"{os.getpid()}-1.new", "{}"), ("readme", "hello"), ("1-2", "{"), ("3-4", '{"a": -1}')):
        (host.directory / CLAIMS / name).write_text(text)

    assert host.used() == [0, 0]


def test_a_daemon_that_starts_again_finds_what_is_held(host: Host) -> None:
    """Claims of the living and memory that lingers outlast the daemon; the directory goes when there are none."""
    with Family("calm") as family:
        claim(host.directory, {FIRST: GIB}, family.leader)
        claim(host.directory, {FIRST: GIB}, family.child)
        inject(host.directory, Faults(linger_seconds=None))
        end(family.leader)
        host.used()
        host.start()
        found = host.used()
        host.gpus.remove()
        (host.directory / FAULTS).unlink()
        without_ghost = host.used()
        host.gpus.remove()
        kept = host.directory.exists()
        end(family.child)
        host.gpus.remove()

        assert found == [2 * GIB, 0]
        assert without_ghost == [GIB, 0]
        assert kept
        assert not host.directory.exists()


@pytest.fixture(scope="module")
def family() -> Iterator[Family]:
    """Two processes that live as long as all examples."""
    with Family("calm") as family:
        yield family


SHARES = st.dictionaries(st.sampled_from([FIRST, SECOND]), st.integers(0, 30 * GIB))


@given(st.lists(st.tuples(st.integers(0, 1), SHARES), max_size=6), SHARES)
def test_all_that_is_held_adds_up(
    family: Family, claims: list[tuple[int, dict[str, int]]], left: dict[str, int]
) -> None:
    """What processes hold, what lingers and the driver's own are what is in use, and never more than there is."""
    with tempfile.TemporaryDirectory() as directory:
        host = Host(pathlib.Path(directory))
        inject(host.directory, Faults(linger_seconds=None))
        (host.directory / CLAIMS / "1-1").write_bytes(msgspec.json.encode(left))
        ghosts = dict(zip((FIRST, SECOND), host.used(), strict=True))
        holding = [dict[str, int](), dict[str, int]()]
        for member, shares in claims:
            with contextlib.suppress(OutOfMemory):
                claim(host.directory, shares, family.members[member])
                holding[member] = shares

        for gpu in host.gpus.snapshot().gpus:
            claimed = sum(shares.get(gpu.uuid, 0) for shares in holding)
            assert gpu.used_bytes == RESERVED + claimed + ghosts[gpu.uuid] <= gpu.total_bytes
            assert gpu.used_bytes + gpu.free_bytes == gpu.total_bytes
            assert gpu.unaccounted_bytes == RESERVED + ghosts[gpu.uuid]
