"""Which GPUs have fallen off the bus: they can't be read any more, while NVML answers for the others.

NVML may fail at one question and answer the next, and a GPU may be reset under an operator's hands. So it counts as
lost at once only if NVML says just that; else when several looks in a row, over some seconds, were without it. When
NVML as a whole does not answer, nothing follows for a single GPU.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from vllmd.events import Events, Kind
from vllmd.gpu.inventory import Gpu, Inventory, Unread

LOOKS = 3
SECONDS = 2.0
"""What these looks have to span: some come many times a second."""

ADVICE = "look at dmesg for an Xid, then reset the GPU or reboot the host"


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """A GPU that is lost."""

    uuid: str
    """Empty for one that NVML counts and that was never read."""
    index: int
    product: str
    reason: str
    """How that is known."""
    since: float
    """Seconds since the epoch."""

    def __str__(self) -> str:
        """Name the GPU."""
        return f"GPU {self.index}" + (f" ({self.uuid})" if self.uuid else "")


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A GPU that there should be."""

    gpu: Gpu
    """As it was seen last."""
    looks: int = 0
    """How many looks in a row were without it."""
    since: float = 0.0
    """When the first of them was."""
    loss: Loss | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """A GPU was lost, or is back."""

    loss: Loss
    back: bool


def observe(known: Mapping[str, Known], inventory: Inventory, now: float) -> tuple[dict[str, Known], list[News]]:
    """Take in a look at the GPUs; returns what is known after it, and what is new.

    Args:
        known: what was known before, by UUID, or by index for a GPU that was never read.
        inventory: the look.
        now: seconds since the epoch.
    """
    if not inventory.available:
        return dict(known), []
    present = {gpu.uuid: gpu for gpu in inventory.gpus}
    errors = {one.index: one for one in inventory.unread}
    indexes = {gpu.index for gpu in inventory.gpus}
    taken = {one.gpu.index for one in known.values()}
    unknown = (index for index, error in errors.items() if index not in taken and not error.denied)
    nameless = {f"index {index}": Known(Gpu("", index, "", 0, 0, 0)) for index in unknown}
    after = {uuid: Known(gpu) for uuid, gpu in present.items()}
    well = {gpu.whole for gpu in inventory.gpus}
    news = []
    for key, one in {**known, **nameless}.items():
        if key in inventory.hidden:
            continue  # it is well, and an earlier daemon's
        # A GPU that was cut into slices, or whose slices were made anew, is not lost.
        if one.gpu.whole in well or (not one.gpu.uuid and one.gpu.index in indexes):
            news += [News(one.loss, back=True)] if one.loss is not None else []
            continue
        after[key] = one if one.loss is not None else _missed(one, errors.get(one.gpu.index), now)
        loss = after[key].loss
        news += [News(loss, back=False)] if loss is not None and one.loss is None else []
    return after, news


def _missed(one: Known, error: Unread | None, now: float) -> Known:
    """Judge a GPU that a look was without."""
    if error is not None and error.denied:
        return one
    looks, since = one.looks + 1, one.since if one.looks else now
    if error is not None and error.lost:
        reason = f"NVML: {error.error}"
    elif looks >= LOOKS and now - since >= SECONDS:
        what = f"NVML: {error.error}" if error is not None else "NVML does not list it any more"
        reason = f"{what}, at {looks} looks in a row"
    else:
        return dataclasses.replace(one, looks=looks, since=since)
    gpu = one.gpu
    return dataclasses.replace(one, loss=Loss(gpu.uuid, gpu.index, gpu.product, reason, now))


class Losses:
    """The GPUs that are lost; that one is, or is back, is an event.

    Args:
        events: where that is recorded.
        clock: seconds since the epoch.
    """

    def __init__(self, events: Events, clock: Callable[[], float] = time.time) -> None:
        self._events = events
        self._clock = clock
        self._known: dict[str, Known] = {}

    def expect(self, gpus: Iterable[Gpu]) -> None:
        """Know of GPUs that an earlier daemon used: they may have been lost before anybody looked."""
        self._known = {gpu.uuid: Known(gpu) for gpu in gpus} | self._known

    def observe(self, inventory: Inventory) -> None:
        """Take in a look at the GPUs."""
        now = self._clock()
        self._known, news = observe(self._known, inventory, now)
        for one in news:
            uuids = [one.loss.uuid] if one.loss.uuid else []
            if one.back:
                message = f"{one.loss} can be read again after {now - one.loss.since:.0f} s."
                self._events.record(Kind.GPU_BACK, message, gpus=uuids, index=one.loss.index)
            else:
                message = f"{one.loss} fell off the bus: {ADVICE}."
                reasons = [one.loss.reason]
                self._events.record(Kind.GPU_LOST, message, reasons=reasons, gpus=uuids, index=one.loss.index)

    def all(self) -> list[Loss]:
        """List the lost GPUs, by index."""
        losses = (one.loss for one in self._known.values() if one.loss is not None)
        return sorted(losses, key=lambda loss: loss.index)

    def among(self, uuids: Collection[str]) -> Loss | None:
        """Find a lost GPU among some."""
        return next((loss for loss in self.all() if loss.uuid in uuids), None)

    def is_incomplete(self, inventory: Inventory) -> bool:
        """Tell whether a look is without a GPU that there should be, lost or not."""
        return bool(inventory.unread) or not self._known.keys() <= {gpu.uuid for gpu in inventory.gpus}
