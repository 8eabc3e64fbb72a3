"""Watches the processes of one engine, and says what ended."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

from vllmd.engines.process import EngineProcess, Watch
from vllmd.worker.processes import Identity

DYING_SECONDS = 0.1
"""What a worker gets to end before the end of a part is told: the kernel ends its parts first, and how it ended says
more. One of many threads and much memory takes some milliseconds to die."""


class TreeWatch:
    """Watches a worker, and later vLLM's own processes below it: the death of any of them is the engine's.

    Args:
        process: the worker.
        worker_ended: called when the worker has ended, with how.
        part_ended: called when anything else of the tree has, with a phrase that says what.
    """

    def __init__(
        self, process: EngineProcess, worker_ended: Callable[[str], None], part_ended: Callable[[str], None]
    ) -> None:
        self._process = process
        self._part_ended = part_ended
        self._due: list[asyncio.TimerHandle] = []
        self._watches = [Watch(process.identity, lambda: worker_ended(process.how_it_ended() or "ended"))]
        self.seen: set[Identity] = {process.identity}
        """Every process that was ever seen in the tree."""

    async def watch_parts(self) -> None:
        """Look for the tree's other processes, and watch those that are vLLM's."""
        members = await asyncio.to_thread(self._process.tree.members)
        self.seen.update(stat.identity for stat in members)
        for stat in members:
            if stat.name.startswith("VLLM::"):
                what = f"{stat.name} (pid {stat.identity.pid}) is gone"
                self._watches.append(Watch(stat.identity, functools.partial(self._part_is_gone, what)))

    def close(self) -> None:
        """Stop watching."""
        for timer in self._due:
            timer.cancel()
        for watch in self._watches:
            watch.close()
        self._watches.clear()

    def _part_is_gone(self, what: str) -> None:
        self._due.append(asyncio.get_running_loop().call_later(DYING_SECONDS, self._part_ended, what))
