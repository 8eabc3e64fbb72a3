"""How a daemon leaves its engines at its end: gone, or to the one that comes after it."""

from __future__ import annotations

import time
from collections.abc import Callable

from vllmd.errors import Unavailable
from vllmd.scheduler.placement import Placement

_LOOK_SECONDS = 0.1


async def drain(engines: Placement, timeout: float, hurried: Callable[[], bool]) -> bool:
    """Let generations finish, and end every engine.

    Args:
        engines: all of them; the caller sees to it that there are no new ones.
        timeout: seconds that running generations may take.
        hurried: asked often; once true, everything is killed at once.

    Returns:
        True if every engine is proven to be gone.
    """
    alive = engines.alive()
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not hurried() and any(entry.using for entry in alive):
        await engines.changed.wait(_LOOK_SECONDS)
    for entry in alive:
        entry.supervisor.stop("the daemon is shutting down")
    while any(not entry.supervisor.state.ended for entry in alive):
        if hurried():
            for entry in alive:
                entry.supervisor.stop("the daemon is in a hurry", force=True)
        await engines.changed.wait(_LOOK_SECONDS)
    return not engines.unproven.ids


def hand_over(engines: Placement) -> None:
    """Let go of every engine without ending it; what runs on it ends, with word of when to try again."""
    for entry in engines.alive():
        entry.supervisor.hand_over(upgrading(engine=entry.supervisor.id))


def upgrading(**metadata: str) -> Unavailable:
    """What clients are told while the daemon executes its new code."""
    message = "The daemon is being upgraded; its engines stay. Try again at once."
    return Unavailable("UPGRADING", message, 1.0, **metadata)
