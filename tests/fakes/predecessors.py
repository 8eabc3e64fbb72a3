"""The end of what dead daemons have left."""

from __future__ import annotations

import pathlib

from vllmd.engines.containment import Containment
from vllmd.engines.predecessor import reclaim_all
from vllmd.engines.reclaim import Report
from vllmd.events import Events
from vllmd.gpu.monitor import GpuMonitor


async def ended(
    root: pathlib.Path, monitor: GpuMonitor, containment: Containment | None = None, events: Events | None = None
) -> list[Report]:
    """End all that is left in *root*; returns what that gave back, in the order of the engines' ids."""
    found = await reclaim_all(root, containment or Containment(None), monitor, 5.0, events or Events())
    return [one.report for one in found]
