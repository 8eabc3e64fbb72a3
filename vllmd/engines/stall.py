"""Whether an engine still makes progress. vLLM's own health check is a flag in its host process and tells nothing."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Vitals:
    """What is known of an engine's progress; times on a monotonic clock."""

    running: int
    """Requests in flight."""
    progress: float
    """When it last made a token, or got a request after having had none."""
    unanswered: float | None
    """Since when a ping waits for its answer; `None` while none does."""


def diagnose(vitals: Vitals, now: float, timeout: float) -> str | None:
    """Say what is wrong with an engine that hangs; `None` for one that does not.

    Args:
        vitals: what is known of it.
        now: on the same clock.
        timeout: seconds without progress that are too many.
    """
    if vitals.running and now - vitals.progress > timeout:
        return f"{vitals.running} requests run, and for {now - vitals.progress:.0f} s there was no token"
    if vitals.unanswered is not None and now - vitals.unanswered > timeout:
        return f"a ping through EngineCore has had no answer for {now - vitals.unanswered:.0f} s"
    return None
