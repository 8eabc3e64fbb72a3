"""What all engines of a daemon share."""

from __future__ import annotations

import dataclasses
import pathlib

from vllmd.config import Live, Rules
from vllmd.engines.containment import Containment
from vllmd.engines.peaks import Peaks
from vllmd.engines.restarts import FIRST_DELAY_SECONDS, Policy
from vllmd.events import Events
from vllmd.gpu.ledger import Ledger
from vllmd.gpu.losses import Losses
from vllmd.gpu.monitor import GpuMonitor
from vllmd.interpreter import Interpreter
from vllmd.profiles.store import Profiles
from vllmd.worker.spec import Backend


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where engines live and by which rules."""

    root: pathlib.Path
    """Holds the engines' directories."""
    cache: pathlib.Path
    python: pathlib.Path
    """The interpreter that has vLLM."""
    backend: Backend
    containment: Containment
    monitor: GpuMonitor
    version: str
    live: Live
    """What a reload changes; see `rules`."""
    quarantine_retry: float = 30.0
    """Seconds between two looks at an engine that is not proven to be gone."""
    first_restart_delay: float = FIRST_DELAY_SECONDS
    simulation: pathlib.Path | None = None
    """Where the processes of a simulated host write down what they hold."""
    profiles: Profiles = dataclasses.field(default_factory=Profiles)
    """What loads took; `profiles.lookup` is for plans."""
    peaks: Peaks = dataclasses.field(default_factory=Peaks)
    ledger: Ledger = dataclasses.field(default_factory=Ledger)
    events: Events = dataclasses.field(default_factory=Events)
    losses: Losses = dataclasses.field(default_factory=lambda: Losses(Events()))

    @property
    def rules(self) -> Rules:
        """The rules in force now; not to be kept, as a reload replaces them."""
        return self.live.rules

    @property
    def interpreter(self) -> Interpreter:
        """The interpreter that has vLLM, for short-lived children."""
        return Interpreter(self.python, self.rules.pass_environment)

    @property
    def restarts(self) -> Policy:
        """How patient this host is with its engines now."""
        return Policy(self.rules.restart_limit, self.rules.restart_window, self.first_restart_delay)
