"""What a load would come to at this moment, without one: an engine to share, or a plan and who is in its way.

Nothing is started, nothing is written down, and nothing is learned from the look at the GPUs.
"""

from __future__ import annotations

import dataclasses

from vllmd.engines import diagnosis
from vllmd.engines.diagnosis import Failure
from vllmd.planner.planning import Plan
from vllmd.scheduler.placement import Placement
from vllmd.scheduler.scheduler import Scheduler
from vllmd.scheduler.wish import Wish


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How an engine would be started, or was."""

    plan: Plan
    shared: str = ""
    """The engine that would be shared in place of a new one; empty if there is none."""
    blocking: tuple[str, ...] = ()
    """Engines that would be waited for: they start or end where it is to run, or hold what it takes and are leaving."""


async def look(scheduler: Scheduler, wish: Wish) -> Outlook:
    """Work out what `Scheduler.loading` would come to.

    Raises:
        VllmdError: what a load would end with, of whichever kind.
    """
    scheduler.refuse_if_leaving()
    scheduler.admission.check(wish)
    engines = scheduler.engines
    shared = engines.sharing(wish)
    if shared is None:
        engines.refuse_if_full()
    elif shared.supervisor.plan is not None:
        return Outlook(plan=shared.supervisor.plan, shared=shared.supervisor.id)
    found = await _plan(engines, wish)
    return found if shared is None else dataclasses.replace(found, shared=shared.supervisor.id)


async def _plan(engines: Placement, wish: Wish) -> Outlook:
    planned = await engines.prospects.plan(wish, None, engines.alive())
    leaving: list[str] = []
    if isinstance(planned, Failure) and (leaving := engines.may_fit_soon(planned)):
        planned = await engines.prospects.plan(wish, None, engines.alive(), gone=leaving)
    if isinstance(planned, Failure):
        raise diagnosis.to_error(planned)
    return Outlook(plan=planned, blocking=tuple(dict.fromkeys((*leaving, *engines.in_the_way(planned)))))
