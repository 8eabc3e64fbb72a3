from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.fakes.fake_pynvml import FakePynvml
from tests.gpu.conftest import Play
from vllmd.gpu import nvml_links
from vllmd.gpu.inventory import GpuLink, Path
from vllmd.gpu.nvml import Nvml

Pair = tuple[int, int]


def links() -> dict[Pair, tuple[int | None, Path | None, bool | None]]:
    """How every two GPUs of the host are connected, by index."""
    found = Nvml().snapshot()
    index = {gpu.uuid: gpu.index for gpu in found.gpus}
    return {
        (index[link.first], index[link.second]): (link.nvlinks, link.path, link.peer_access) for link in found.links
    }


def pairs(count: int) -> list[Pair]:
    return [(first, second) for first in range(count) for second in range(first + 1, count)]


def answer(driver: FakePynvml, function: str, **answers: object) -> None:
    """Let a function answer so, whatever its arguments."""
    driver.answers[f"nvmlDeviceGet{function}"] = {"*": answers.get("value", answers)}


def test_a_bridge_between_two_gpus(play: Play) -> None:
    """Its four links lead from each to the other."""
    play("rtx3090-x2-nvlink")

    assert links() == {(0, 1): (4, Path.PHB, True)}


def test_gpus_that_a_bridge_could_join(play: Play) -> None:
    """No link is active, and GeForce cards do not reach each other over PCIe."""
    play("rtx3090-x2")

    assert links() == {(0, 1): (0, Path.PHB, False)}


def test_gpus_at_switches_reach_all_others(play: Play) -> None:
    """By all the links that they have, whichever half of the host they are in."""
    play("h100-sxm-x8")
    found = links()

    assert sorted(found) == pairs(8)
    assert {nvlinks for nvlinks, _, _ in found.values()} == {18}
    assert found[0, 3] == (18, Path.NODE, True)
    assert found[0, 4] == (18, Path.SYS, True)


def test_gpus_that_have_no_nvlink(play: Play) -> None:
    """That NVML does not know of links on them is no answer; that the two have no NVLink capability is."""
    driver = play("l40s-x4")
    found = links()
    answer(driver, "P2PStatus", error="NotSupported")
    unsaid = links()

    assert found[0, 1] == (0, Path.NODE, True)
    assert found[1, 2] == (0, Path.SYS, True)
    assert unsaid[0, 1] == (None, Path.NODE, None)


def test_bridged_pairs(play: Play) -> None:
    """Two of four are joined, and the pairs only by PCIe."""
    play("a100-pcie-x4")
    found = links()

    assert {pair: found[pair][0] for pair in pairs(4)} == {
        (0, 1): 12, (2, 3): 12, (0, 2): 0, (0, 3): 0, (1, 2): 0, (1, 3): 0,
    }  # fmt: skip


def test_a_mixed_host(play: Play) -> None:
    """One has links that lead nowhere, the other has none."""
    play("h200-rtx4090")

    assert links() == {(0, 1): (0, Path.SYS, False)}


def test_slices_are_connected_to_nothing(play: Play) -> None:
    """Nor is the GPU beside them that is left over."""
    play("h100-x2-mig")

    assert links() == {}


def test_nothing_is_known_of_what_is_not_said(play: Play) -> None:
    """The pair is there, as somebody may want to know that it is not known."""
    play("vgpu-x2")

    assert links() == {(0, 1): (None, None, None)}


@pytest.mark.parametrize(
    ("ours", "theirs", "reach", "nvlinks"),
    [
        pytest.param(18, 18, 0, 18, id="as many as both have"),
        pytest.param(18, 17, 0, 17, id="one is broken"),
        pytest.param(18, 0, 5, 0, id="one is not connected"),
        pytest.param(18, 18, None, 18, id="counted, whatever NVML says else"),
    ],
)
def test_the_smaller_number_of_links_to_switches_counts(
    play: Play, ours: int, theirs: int, reach: int | None, nvlinks: int
) -> None:
    """What one GPU has more leads to switches that the other does not use."""
    driver = play("h100-sxm-x8")
    driver.answers["nvmlDeviceGetCount"][""] = 2
    driver.answers["nvmlDeviceGetNvLinkState"] = _active(ours, theirs)
    answer(driver, "P2PStatus", **({"error": "Unknown"} if reach is None else {"value": reach}))

    assert links()[0, 1][0] == nvlinks


@pytest.mark.parametrize(("reach", "nvlinks"), [(0, 18), (5, 0), (6, None), (None, None)])
def test_switches_that_are_not_on_the_bus(play: Play, reach: int | None, nvlinks: int | None) -> None:
    """NVML does not say what is at the other end: then it counts what it says of the pair."""
    driver = play("h100-sxm-x8")
    driver.answers["nvmlDeviceGetCount"][""] = 2
    answer(driver, "NvLinkRemoteDeviceType", value=0xFF)
    answer(driver, "NvLinkRemotePciInfo", busId="FFFFFFFF:FF:FF.0")
    answer(driver, "P2PStatus", **({"error": "NotSupported"} if reach is None else {"value": reach}))

    assert links()[0, 1][0] == nvlinks


def test_an_old_driver_that_does_not_know_what_is_at_the_other_end(play: Play) -> None:
    """Where it is, is enough for a GPU that is there."""
    driver = play("rtx3090-x2-nvlink")
    answer(driver, "NvLinkRemoteDeviceType", error="FunctionNotFound")
    driver.answers["nvmlDeviceGetNvLinkRemotePciInfo"]["0 [0-3]"] = {"busId": "0000:2b:00.0"}

    assert links()[0, 1][0] == 4


@pytest.mark.parametrize(
    ("statuses", "peer_access"),
    [
        ({"*": 0}, True),
        ({"1 0 1": 1, "*": 0}, False),
        ({"1 0 1": 1, "*": 6}, False),
        ({"0 1 0": 6, "*": 0}, None),
        ({"0 1 0": {"error": "NotSupported"}, "*": 0}, None),
    ],
)
def test_peer_access_takes_both_ways_and_both_kinds(
    play: Play, statuses: dict[str, object], peer_access: bool | None
) -> None:
    """One refusal is enough to know that there is none, and it takes all four answers to know that there is."""
    play("rtx3090-x2").answers["nvmlDeviceGetP2PStatus"] = statuses

    assert links()[0, 1][2] is peer_access


@pytest.mark.parametrize(("level", "path"), [(0, Path.BOARD), (10, Path.PIX), (20, Path.PXB), (25, None)])
def test_ways_over_pcie(play: Play, level: int, path: Path | None) -> None:
    """By NVML's numbers; one that is new is unknown."""
    play("rtx3090-x2").answers["nvmlDeviceGetTopologyCommonAncestor"] = {"*": level}

    assert links()[0, 1][1] is path


def test_links_are_read_once(play: Play) -> None:
    """And once more when there are other GPUs, or when they may have come up meanwhile."""
    now = [0.0]
    driver = play("rtx3090-x2-nvlink")
    nvml = Nvml(clock=lambda: now[0])

    def asked(seconds: float) -> tuple[bool, Iterable[GpuLink]]:
        now[0] = seconds
        driver.calls.clear()
        found = nvml.snapshot().links
        return "nvmlDeviceGetNvLinkState" in driver.calls, found

    first, second = asked(0.0), asked(1.0)
    driver.answers["nvmlDeviceGetHandleByIndex"] = {"1": {"error": "GpuIsLost"}}
    lost = asked(2.0)
    del driver.answers["nvmlDeviceGetHandleByIndex"]
    back = asked(3.0)

    assert (first[0], second[0], second[1]) == (True, False, first[1])
    assert lost == (True, ())
    assert back == (True, first[1])
    assert [asked(seconds)[0] for seconds in (500.0, 599.0, 601.0, 602.0)] == [False, False, True, False]


def test_only_links_between_ones_own_gpus_are_told(play: Play) -> None:
    """Those that are hidden are another daemon's."""
    play("a100-pcie-x4")
    found = Nvml("1,2,3").snapshot()

    assert {(link.first[:12], link.second[:12]) for link in found.links} == {
        ("GPU-00000001", "GPU-00000002"),
        ("GPU-00000001", "GPU-00000003"),
        ("GPU-00000002", "GPU-00000003"),
    }


@pytest.mark.parametrize("bus_id", ["00000000:3B:00.0", "0000:3b:00.0", "0:3B:00.0"])
def test_one_place_on_the_bus_however_it_is_written(bus_id: str) -> None:
    """NVML has had domains of four digits and of eight."""
    assert nvml_links.place(bus_id) == nvml_links.place("00000000:3B:00.0")
    assert nvml_links.place(bus_id) != nvml_links.place("00000001:3B:00.0")


def _active(*counts: int) -> dict[str, object]:
    """How many of the 18 links of each GPU are active."""
    return {f"{gpu} {link}": int(link < count) for gpu, count in enumerate(counts) for link in range(18)}
