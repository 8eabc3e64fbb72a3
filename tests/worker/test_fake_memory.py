from __future__ import annotations

import pathlib

import pytest

from tests.fakes.processes import Family, ends, eventually, kill
from vllmd.worker.fake_memory import FakeMemory, memory_of, parts, spread
from vllmd.worker.processes import Identity
from vllmd.worker.simulation import CLAIMS, Memory, OutOfMemory, held, publish

GIB = 1 << 30
A, B = "GPU-SIM-A", "GPU-SIM-B"
CORE, RANK_0, RANK_1 = Identity(1, 1), Identity(3, 2), Identity(2, 3)


@pytest.fixture
def simulation(tmp_path: pathlib.Path) -> pathlib.Path:
    """The directory of a simulation with two GPUs."""
    publish(tmp_path, {A: Memory(10 * GIB, GIB), B: Memory(20 * GIB, GIB)})
    return tmp_path


def environment(simulation: pathlib.Path, visible: str) -> dict[str, str]:
    """What the daemon tells an engine."""
    return {"VLLMD_SIMULATION": str(simulation), "CUDA_VISIBLE_DEVICES": visible}


@pytest.mark.parametrize(
    ("workers", "shares"),
    [
        ([], {CORE: {A: 1, B: 2}}),
        ([RANK_0, RANK_1], {RANK_0: {A: 1}, RANK_1: {B: 2}}),
        ([RANK_0], {RANK_0: {A: 1}}),
        ([RANK_0, RANK_1, CORE], {RANK_0: {A: 1}, RANK_1: {B: 2}}),
    ],
)
def test_each_worker_has_a_gpu_of_its_own(workers: list[Identity], shares: dict[Identity, dict[str, int]]) -> None:
    """In the order of their ranks, and EngineCore none; without workers it has them all, as vLLM with TP=1."""
    assert spread(CORE, workers, {A: 1, B: 2}) == shares


def test_an_engine_takes_its_share_of_the_gpus_that_it_sees(simulation: pathlib.Path) -> None:
    """In the names of its core or of the processes below that, and first a part of it."""
    with Family("calm") as family:
        memory = memory_of(family.leader.pid, 0.5, None, environment(simulation, B))
        assert memory is not None
        memory.hold(0.25)
        first = held(simulation / CLAIMS)
        memory.hold(1.0)

        assert first == {family.child: {B: 5 * GIB // 2}}
        assert held(simulation / CLAIMS) == {family.child: {B: 10 * GIB}}


def test_bytes_take_the_place_of_the_share(simulation: pathlib.Path) -> None:
    """On each GPU; an order of the GPUs is kept, and those that are not simulated are not counted."""
    with Family("calm") as family:
        memory = memory_of(family.child.pid, 0.9, 7, environment(simulation, f"{B},GPU-real,{A}"))
        assert memory is not None
        memory.hold(1.0)

        assert list(held(simulation / CLAIMS)[family.child].items()) == [(B, 7), (A, 7)]


@pytest.mark.parametrize("visible", ["", "0,1", "GPU-real"])
def test_an_engine_without_simulated_gpus_holds_nothing(simulation: pathlib.Path, visible: str) -> None:
    """On the CPU, on real GPUs, or where no host is simulated."""
    with Family("calm") as family:
        assert memory_of(family.leader.pid, 0.9, None, environment(simulation, visible)) is None
        assert memory_of(family.leader.pid, 0.9, None, {"CUDA_VISIBLE_DEVICES": A}) is None


def test_a_leak_goes_on_until_the_gpu_is_full(simulation: pathlib.Path) -> None:
    """It grows from what the engine holds, stays within what there is, and ends by itself."""
    with Family("calm") as family:
        memory = FakeMemory(simulation, {family.leader: {A: GIB}})
        memory.hold(1.0)
        leak = memory.grow(20 * GIB)

        assert eventually(lambda: not leak.is_alive(), 20.0)
        assert held(simulation / CLAIMS) == {family.leader: {A: 9 * GIB}}
        with pytest.raises(OutOfMemory):
            memory.hold(1.0, 9 * GIB)


def test_a_leak_ends_with_its_process(simulation: pathlib.Path) -> None:
    """The dead hold nothing, so there is nobody to go on for."""
    with Family("calm") as family:
        leak = FakeMemory(simulation, {family.leader: {A: GIB}}).grow(1)
        kill(family.leader)
        assert ends(family.leader, 5.0)

        assert eventually(lambda: not leak.is_alive())


def test_a_whole_is_the_sum_of_its_parts() -> None:
    """Whatever its size."""
    for held_bytes in (0, 1, 999, 80 * GIB + 1):
        assert sum(parts(held_bytes).values()) == held_bytes


def test_most_on_one_gpu(tmp_path: pathlib.Path) -> None:
    """Of all processes together, where they share one."""
    assert FakeMemory(tmp_path, {RANK_0: {A: 2, B: 3}, RANK_1: {A: 2}}).most_bytes == 4
