"""Engines that ended without the proof that all of theirs is gone: their GPUs are kept free of others until it is."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from vllmd.engines import ending
from vllmd.engines.ground import Ground
from vllmd.engines.reclaim import Remains, Report
from vllmd.engines.supervisor import Supervisor
from vllmd.gpu.quarantine import Quarantines
from vllmd.tasks import spawn


class Unproven:
    """Tries their ends again, slowly, with their GPUs in quarantine meanwhile.

    Args:
        ground: what engines share.
        quarantines: where the GPUs go.
        changed: called once one is proven to be gone.
    """

    def __init__(self, ground: Ground, quarantines: Quarantines, changed: Callable[[], None]) -> None:
        self._ground = ground
        self._quarantines = quarantines
        self._changed = changed
        self.ids: set[str] = set()
        """The engines."""

    def add(self, supervisor: Supervisor) -> None:
        """Take in an engine that has ended, and of which the report says that it is not proven to be gone."""
        self.ids.add(supervisor.id)
        if supervisor.remains is not None and supervisor.report is not None:
            self.keep_off(supervisor.remains, supervisor.report, supervisor)

    def keep_off(self, remains: Remains, report: Report, supervisor: Supervisor | None = None) -> None:
        """Keep engines off the GPUs of one that is not proven to be gone, until it is.

        Args:
            remains: where its end has to look.
            report: what came of it so far.
            supervisor: its own; `None` for an engine of an earlier daemon.
        """
        engine_id = remains.tree.engine_id
        self.ids.add(engine_id)
        remains = kept(remains, report)
        for expected in remains.expected:
            self._quarantines.put(expected.uuid, report.summary, engine_id, holder=engine_id)
        spawn(f"quarantine for {engine_id}", self._try_again(remains, supervisor))

    async def _try_again(self, remains: Remains, supervisor: Supervisor | None) -> None:
        engine_id = remains.tree.engine_id
        while True:
            await asyncio.sleep(self._ground.quarantine_retry)
            if all(self._ground.losses.among([one.uuid]) for one in remains.expected) and remains.expected:
                continue  # while none of them can be read, there is no proof
            report = await ending.end(remains, self._ground)
            if supervisor is not None:
                supervisor.report = report
            left = () if report.verified else kept(remains, report).expected
            for expected in (one for one in remains.expected if one not in left):
                self._quarantines.lift(expected.uuid, report.summary, holder=engine_id)
            if report.verified:
                break
            remains = dataclasses.replace(remains, expected=left)
        self.ids.discard(engine_id)
        self._changed()


def kept(remains: Remains, report: Report) -> Remains:
    """Narrow an end down to the GPUs that it has to look at again; all of them if the report names none."""
    expected = tuple(one for one in remains.expected if one.uuid in report.kept)
    return dataclasses.replace(remains, expected=expected) if expected else remains
