"""Whether an engine that failed is started again, and when. Pure: the time and the dice come in from outside.

As in OTP, what counts is intensity: an engine that fails once a day is restarted for ever, one that fails again and
again within the window is given up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
MOST_DISTURBANCES = 3
JITTER = 0.2
"""How much a delay may differ either way, so that engines that failed together do not start together."""


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """How patient a host is with its engines."""

    limit: int = 3
    """Restarts within the window before an engine is given up."""
    window_seconds: float = 600.0
    first_delay_seconds: float = FIRST_DELAY_SECONDS


@dataclasses.dataclass(frozen=True, slots=True)
class Restart:
    """The engine is started again."""

    delay_seconds: float
    reasons: tuple[str, ...]
    counts: bool = True
    """False for one that costs nothing of the budget."""


@dataclasses.dataclass(frozen=True, slots=True)
class GiveUp:
    """The engine is not started again."""

    reasons: tuple[str, ...]


def resume(restart: Restart, due: float, now: float) -> Restart:
    """Keep to the time that an earlier daemon had set for a restart, but for clocks that were changed meanwhile."""
    left = min(max(0.0, due - now), LONGEST_DELAY_SECONDS * (1 + JITTER))
    return dataclasses.replace(restart, delay_seconds=left)


def decide(
    policy: Policy,
    earlier: Sequence[float],
    *,
    now: float,
    hopeless: bool,
    wanted: str,
    dice: float,
    disturbances: int = 0,
) -> Restart | GiveUp:
    """Decide about an engine that has just failed.

    Args:
        policy: the host's.
        earlier: when it was started again before, on the clock of *now*.
        now: seconds.
        hopeless: whether the cause can't change by another try.
        wanted: who has a lease on it, or waits for it; empty if nobody does.
        dice: a random number from 0 to 1.
        disturbances: how often its start was disturbed by a neighbour that came or went on its GPU, this time
            included; 0 if that is not why it failed.
    """
    if disturbances and wanted and disturbances <= MOST_DISTURBANCES:
        return Restart(policy.first_delay_seconds, ("a neighbour on its GPU disturbed its start", wanted), counts=False)
    if hopeless:
        return GiveUp(("another try can't change the cause",))
    if not wanted:
        return GiveUp(("nobody has a lease on it",))
    recent = sum(time > now - policy.window_seconds for time in earlier)
    if recent >= policy.limit:
        return GiveUp((f"it was started again {recent} times within {policy.window_seconds:g} s",))
    delay = min(policy.first_delay_seconds * 2**recent, LONGEST_DELAY_SECONDS) * (1 + JITTER * (2 * dice - 1))
    budget = f"restart {recent + 1} of at most {policy.limit} within {policy.window_seconds:g} s"
    return Restart(delay, (wanted, budget))


def against(verified: bool, unwanted: bool, wanted: str) -> str:
    """Say what speaks against a restart that was decided on, once the reclaim is over; empty if nothing does.

    Args:
        verified: whether the engine is proven to be gone.
        unwanted: whether it was asked to end meanwhile.
        wanted: as for `decide`, now.
    """
    if not verified:
        return "it is not proven to be gone"
    if not wanted:
        return "nobody has a lease on it any more"
    return "it was asked to end meanwhile" if unwanted else ""
