from __future__ import annotations

import dataclasses
import itertools

import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.models import held
from vllmd.gpu import products
from vllmd.gpu.inventory import Gpu, GpuLink, Path
from vllmd.planner.topology import Topology, alike


def indices(gpus: tuple[Gpu, ...]) -> list[int]:
    return [one.index for one in gpus]


def islands(topology: Topology, gpus: tuple[Gpu, ...]) -> list[list[int]]:
    return [indices(island) for island in topology.islands(gpus)]


def sets(host: str, count: int, **shares: float) -> list[list[int]]:
    """Sets of so many GPUs of a host, of which others hold a share of `g0`, `g1` and so on."""
    there = products.inventory(host)
    gpus = tuple(held(one, shares.get(f"g{one.index}", 0.0)) for one in there.gpus)
    return [indices(chosen) for chosen in Topology(there.links).sets(gpus, count)]


def cube() -> tuple[tuple[Gpu, ...], tuple[GpuLink, ...]]:
    """Eight V100 as a DGX-1 has them: two boards of four, each with each, and each GPU with one of the other board."""
    gpus = tuple(gpu(index, 32 * GIB) for index in range(8))
    links = [
        GpuLink(one.uuid, other.uuid, int(one.index // 4 == other.index // 4 or other.index == one.index + 4), Path.SYS)
        for one, other in itertools.combinations(gpus, 2)
    ]
    return gpus, tuple(links)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("8xH100", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("4xRTX3090+nvlink", [[0, 1], [2, 3]]),
        ("3xRTX3090+nvlink", [[0, 1]]),
        ("8xV100", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("2xRTX3090+nvlink,4xH100", [[2, 3, 4, 5], [0, 1]]),
        ("4xL40S", []),
        ("1xH200", []),
    ],
)
def test_an_island_is_where_nvlink_joins_every_two(host: str, expected: list[list[int]]) -> None:
    """By a switch, a bridge or a board; the largest first, and lone GPUs in none."""
    there = products.inventory(host)

    assert islands(Topology(there.links), there.gpus) == expected


def test_boards_that_are_joined_in_part_are_islands_of_their_own() -> None:
    """All eight are connected, but what they exchange would pass through others."""
    gpus, links = cube()
    topology = Topology(links)

    assert islands(topology, gpus) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert topology.joined(gpus[1], gpus[5])
    assert not topology.all_joined(gpus)
    assert topology.all_joined((gpus[0], gpus[4]))


def test_gpus_of_which_nvml_tells_nothing_are_far_apart() -> None:
    """Then the freest are taken."""
    gpus = (gpu(0, used=40 * GIB), gpu(1), gpu(2))
    unknown = Topology((GpuLink("GPU-0", "GPU-1"), GpuLink("GPU-0", "GPU-2"), GpuLink("GPU-1", "GPU-2")))

    for topology in (Topology(), unknown):
        assert topology.islands(gpus) == []
        assert not topology.all_joined(gpus)
        assert indices(next(topology.sets(gpus, 2))) == [1, 2]


def test_one_gpu_is_joined_to_nobody() -> None:
    """So no plan for it says that NVLink joins its GPUs."""
    there = products.inventory("2xH100")

    assert not Topology(there.links).all_joined(there.gpus[:1])


@pytest.mark.parametrize(
    ("host", "count", "best"),
    [
        ("2xRTX3090+nvlink,4xRTX3090", 2, [0, 1]),
        ("4xH100,2xRTX3090+nvlink", 2, [4, 5]),
        ("4xH100,2xRTX3090+nvlink", 3, [0, 1, 2]),
        ("8xH100", 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("8xL40S", 4, [0, 1, 2, 3]),
    ],
)
def test_the_smallest_island_that_suffices_comes_first(host: str, count: int, best: list[int]) -> None:
    """So that the large ones stay whole for who needs them."""
    assert sets(host, count)[0] == best


def test_of_equal_islands_the_freer_comes_first() -> None:
    """A second engine goes to the pair that is empty, not beside the first one."""
    assert sets("4xRTX3090+nvlink", 2, g0=0.5)[:2] == [[2, 3], [0, 1]]
    assert sets("4xRTX3090+nvlink", 2, g3=0.5)[:2] == [[0, 1], [2, 3]]


def test_in_an_island_the_freest_are_taken() -> None:
    """They all reach each other alike."""
    assert sets("8xH100", 2, g0=0.3, g1=0.5, g2=0.4)[0] == [3, 4]
    assert sets("4xH100", 3, g1=0.5)[0] == [0, 2, 3]


def test_over_pcie_those_that_are_near_go_together() -> None:
    """At one CPU, where they are about as free as others."""
    assert sets("8xL40S", 2, g0=0.5, g4=0.5)[0] == [1, 2]
    assert sets("4xL40S", 2, g0=0.5)[0] == [1, 2]
    assert sets("8xL40S", 4, g3=0.6)[0] == [4, 5, 6, 7]


def test_near_ones_that_are_full_are_passed_over_for_the_freest() -> None:
    """Nearness saves time; memory decides whether there is a plan at all."""
    assert sets("8xL40S", 2, g0=0.1, g1=0.9, g2=0.9, g3=0.9, g5=0.9, g6=0.9, g7=0.9)[0] == [0, 4]


def test_no_set_is_tried_twice_and_each_has_as_many_as_wanted() -> None:
    """Each try costs a whole plan."""
    for count in range(1, 9):
        found = sets("8xV100", count, g2=0.2)

        assert len({tuple(one) for one in found}) == len(found) >= 1
        assert all(len(set(one)) == count and one == sorted(one) for one in found)


def test_gpus_are_grouped_by_kind_and_those_with_most_left_come_first() -> None:
    """An engine is not divided among GPUs of which the slowest sets the pace."""
    there = products.parse("2xRTX3090,1xH200,1xL40S")
    busy = tuple(held(one, 0.9) if one.index == 2 else one for one in there)

    assert [indices(group) for group in alike(there)] == [[2], [0, 1], [3]]
    assert [indices(group) for group in alike(busy)] == [[0, 1], [3], [2]]
    assert alike(()) == []


def test_of_two_kinds_that_have_as_much_left_the_newer_comes_first() -> None:
    """An RTX 4090 has 12 MiB less than an RTX 3090; an empty RTX 3060 is still no better than either."""
    there = products.parse("1xRTX3060,1xRTX3090,1xRTX4090")

    assert [indices(group) for group in alike(there)] == [[2], [1], [0]]


def test_one_product_in_two_sizes_is_two_kinds() -> None:
    """The smaller would decide for all."""
    assert len(alike((gpu(0, 40 * GIB), gpu(1, 80 * GIB)))) == 2


def test_each_mig_slice_is_alone() -> None:
    """Slices can't be joined to one engine, though they look alike."""
    slices = tuple(dataclasses.replace(gpu(index, 20 * GIB), mig_parent="GPU-P") for index in range(3))

    assert [indices(group) for group in alike((*slices, gpu(3)))] == [[3], [0], [1], [2]]
