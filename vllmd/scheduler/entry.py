"""One engine, as the scheduler keeps it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from vllmd.engines import outdated
from vllmd.engines.link import Link
from vllmd.engines.state import State
from vllmd.engines.supervisor import Supervisor
from vllmd.errors import NotFound, NotPossible
from vllmd.events import log_fields
from vllmd.scheduler.leases import Lease, LeaseBook
from vllmd.scheduler.rate import Rate
from vllmd.scheduler.wish import Wish, satisfies

_log = logging.getLogger(__name__)


def owners(entries: Iterable[Entry]) -> dict[int, str]:
    """Map the process ids of engines to the engines' ids."""
    return {pid: entry.supervisor.id for entry in entries for pid in entry.supervisor.known_pids}


class Entry:
    """An engine, the wish it was made for, and who needs it."""

    def __init__(self, supervisor: Supervisor, wish: Wish) -> None:
        self.supervisor = supervisor
        self.wish = wish
        self.waiting = 0
        """LoadModel calls that wait for it."""
        self.using = 0
        """Calls that use it."""
        self.stop_reason: str | None = None
        """Why it is to stop once its GPUs allow it."""
        self.idle_timer: asyncio.TimerHandle | None = None
        self._rate = Rate()

    @property
    def usable(self) -> bool:
        """True if it serves, or is going to."""
        return (self.loading or self.supervisor.state is State.READY) and self.stop_reason is None

    @property
    def loading(self) -> bool:
        """True until it is ready, for the first time or again after a failure, unless it is given up."""
        return self.supervisor.state in (State.PENDING, State.STARTING) or self.supervisor.restarting

    def link(self) -> Link:
        """Take what requests go through.

        Raises:
            VllmdError: it does not serve yet, or no more.
        """
        link = self.supervisor.link
        if self.supervisor.state is not State.READY or link is None or self.stop_reason is not None:
            first = self.loading and not self.supervisor.restarting
            raise self.not_ready() if first else self.supervisor.error()
        return link

    def not_ready(self) -> NotPossible:
        """Say that it can't serve yet."""
        engine_id, state = self.supervisor.id, self.supervisor.state
        message = f"Engine {engine_id} is {state}: LoadModel waits until it is ready."
        return NotPossible("ENGINE_NOT_READY", message, engine=engine_id, state=state)

    def check_adapter(self, name: str) -> None:
        """Check that requests may name a LoRA adapter.

        Raises:
            NotFound: it has none of that name; those that it has are named.
            NotPossible: its worker is of an earlier vllmd, which knows none.
        """
        engine_id, link = self.supervisor.id, self.supervisor.link
        if link is not None and link.hello.protocol < outdated.CURRENT:
            message = f"Engine {engine_id} was started by an earlier vllmd, without LoRA: release it and load it again."
            raise NotPossible("ENGINE_OUTDATED", message, engine=engine_id)
        if name not in self.wish.lora:
            known = ", ".join(sorted(self.wish.lora)) or "none"
            message = f"Engine {engine_id} has no LoRA adapter {name[:64]!r}; it has {known}. LoadModel takes more."
            raise NotFound("LORA_NOT_FOUND", message, engine=engine_id, lora=name, known=known)

    def wanted(self, leases: LeaseBook) -> str:
        """Say who needs it, whatever becomes of the generations that it runs now; empty if nobody does."""
        if count := leases.count(self.supervisor.id):
            return "there is a lease on it" if count == 1 else f"there are {count} leases on it"
        return "a client waits for it" if self.waiting else ""

    def satisfies(self, wish: Wish) -> bool:
        """Tell whether it is what *wish* asks for."""
        plan = self.supervisor.plan
        return satisfies(self.wish, plan.engine_args if plan is not None else None, wish)

    @property
    def generated_tokens(self) -> int:
        """Tokens generated since it became ready."""
        return self.supervisor.generated_tokens

    def put_off(self, seconds: float, then: Callable[[Entry], object]) -> None:
        """Let the time that it stays though idle end later than is set, or earlier; nothing if it is not idle."""
        if self.idle_timer is not None:
            due = self.idle_timer.when() + seconds
            self.idle_timer.cancel()
            self.idle_timer = asyncio.get_running_loop().call_at(due, then, self)

    def note(self, lease: Lease, what: str) -> None:
        """Write in the log what becomes of a lease on it."""
        fields = log_fields(ENGINE=self.supervisor.id, MODEL=self.supervisor.model, LEASE=lease.id)
        _log.info(what, self.supervisor.id, extra=fields)

    def sample(self) -> None:
        """Note how many tokens there are; to be called about once a second."""
        if self.supervisor.state is State.READY:
            self._rate.sample(self.generated_tokens, time.monotonic())

    def tokens_per_second(self) -> float:
        """Tokens a second over the last ten seconds."""
        ready = self.supervisor.state is State.READY
        return self._rate.per_second(self.generated_tokens, time.monotonic()) if ready else 0.0
