from __future__ import annotations

import dataclasses

import pytest

from tests.fakes.fake_gpus import gpu
from vllmd.events import Events, Kind
from vllmd.gpu.inventory import Inventory, Unread
from vllmd.gpu.losses import Losses

FIRST, SECOND = gpu(0), gpu(1)
BOTH = Inventory((FIRST, SECOND))
GONE = Inventory((SECOND,))
SILENT = Inventory(error="NVML: Unknown Error", available=False)
LOST = Inventory((SECOND,), unread=(Unread(0, "GPU is lost", lost=True),))
UNWELL = Inventory((SECOND,), unread=(Unread(0, "Unknown Error"),))
DENIED = Inventory((SECOND,), unread=(Unread(0, "Insufficient Permissions", denied=True),))
SLICES = [dataclasses.replace(gpu(0, uuid=f"MIG-{name}"), mig_parent="GPU-0") for name in "ab"]
CUT = Inventory((*SLICES, SECOND))
CUT_ANEW = Inventory((SLICES[0], SECOND))
HIDDEN = Inventory((SECOND,), hidden=frozenset({"GPU-0"}))


class Watched:
    """What becomes known of two GPUs by looks at them, a second apart unless said otherwise."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.now = 1000.0
        self.seconds = seconds
        self.events = Events()
        self.losses = Losses(self.events, lambda: self.now)

    def look(self, *looks: Inventory) -> list[tuple[str, str]]:
        """Look; returns the UUIDs of what is lost after it, with why."""
        for one in looks:
            self.losses.observe(one)
            self.now += self.seconds
        return [(loss.uuid, loss.reason) for loss in self.losses.all()]


@pytest.mark.parametrize(
    ("looks", "reason"),
    [
        pytest.param([LOST], "NVML: GPU is lost", id="NVML says so"),
        pytest.param([UNWELL] * 2, "", id="an error may pass"),
        pytest.param([UNWELL] * 3, "NVML: Unknown Error, at 3 looks in a row", id="an error that stays does not"),
        pytest.param([GONE] * 2, "", id="a look or two without it say nothing"),
        pytest.param([GONE] * 3, "NVML does not list it any more, at 3 looks in a row", id="three do"),
        pytest.param([GONE, GONE, BOTH, GONE, GONE], "", id="in a row"),
        pytest.param([SILENT] * 9, "", id="NVML as a whole does not answer"),
        pytest.param([GONE, GONE, SILENT, GONE], "NVML does not list it any more, at 3 looks in a row", id="meanwhile"),
        pytest.param([GONE, UNWELL, LOST], "NVML: GPU is lost", id="whatever it said before"),
        pytest.param([BOTH] * 3, "", id="nothing is wrong"),
        pytest.param([DENIED] * 9, "", id="who may not ask knows nothing"),
        pytest.param([HIDDEN] * 9, "", id="it is well, and somebody else's"),
        pytest.param([CUT] * 9, "", id="it was cut into slices"),
        pytest.param([CUT] + [CUT_ANEW] * 9, "", id="and into others"),
        pytest.param([CUT] + [BOTH] * 9, "", id="and is whole again"),
        pytest.param([LOST, BOTH], "", id="it is back"),
        pytest.param([LOST, SILENT], "NVML: GPU is lost", id="silence is no return"),
        pytest.param([LOST, GONE], "NVML: GPU is lost", id="the first reason stays"),
    ],
)
def test_the_table(looks: list[Inventory], reason: str) -> None:
    """What it takes for the first GPU to count as lost."""
    assert Watched().look(BOTH, *looks) == ([("GPU-0", reason)] if reason else [])


def test_looks_at_once_are_one() -> None:
    """A reclaim looks ten times a second."""
    watched = Watched(seconds=0.1)

    assert watched.look(BOTH, *[GONE] * 19) == []
    assert len(watched.look(*[GONE] * 3)) == 1


def test_a_loss_and_a_return_are_told_once() -> None:
    """With what an operator can do, and for how long it was gone."""
    watched = Watched()
    watched.look(BOTH, LOST, LOST, BOTH, BOTH)
    lost, back = watched.events.after(0)[0]

    assert (lost.kind, lost.gpus, lost.reasons) == (Kind.GPU_LOST, ("GPU-0",), ("NVML: GPU is lost",))
    assert lost.message.startswith("GPU 0 (GPU-0) fell off the bus: look at dmesg for an Xid")
    assert (back.kind, back.gpus) == (Kind.GPU_BACK, ("GPU-0",))
    assert back.message == "GPU 0 (GPU-0) can be read again after 2 s."


def test_a_gpu_that_was_never_read() -> None:
    """It has no name, and is told by its number."""
    watched = Watched()
    found = watched.look(LOST)
    watched.look(BOTH)
    lost, back = watched.events.after(0)[0]

    assert found == [("", "NVML: GPU is lost")]
    assert lost.message.startswith("GPU 0 fell off the bus")
    assert lost.gpus == ()
    assert back.kind is Kind.GPU_BACK
    assert watched.losses.all() == []


def test_a_gpu_that_was_lost_between_two_daemons() -> None:
    """The engines on it are known, and so it is missed."""
    watched = Watched()
    watched.losses.expect([FIRST])

    assert len(watched.look(*[GONE] * 3)) == 1
    assert watched.losses.among(["GPU-1", "GPU-0"]) is not None
    assert watched.losses.among(["GPU-1"]) is None


def test_a_look_without_a_gpu_is_incomplete() -> None:
    """Also before it counts as lost."""
    watched = Watched()
    watched.look(BOTH)

    assert not watched.losses.is_incomplete(BOTH)
    assert watched.losses.is_incomplete(GONE)
    assert Watched().losses.is_incomplete(LOST)
    assert not Watched().losses.is_incomplete(Inventory())


def test_slices_are_lost_with_their_gpu() -> None:
    """NVML answers for its number, and not for each of them."""
    watched = Watched()
    watched.look(CUT, LOST)

    assert [loss.uuid for loss in watched.losses.all()] == ["MIG-a", "MIG-b"]
