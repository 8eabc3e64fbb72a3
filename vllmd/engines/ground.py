"""What all engines of a daemon share."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from vllmd.engines.containment import Containment
from vllmd.engines.peaks import Peaks
from vllmd.engines.restarts import Policy
from vllmd.events import Events
from vllmd.gpu.ledger import Ledger
from vllmd.gpu.losses import Losses
from vllmd.gpu.monitor import GpuMonitor
from vllmd.profiles.store import Profiles
from vllmd.worker.spec import Backend


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where engines live and by which rules; all times in seconds. `config.Settings` explains each."""

    root: pathlib.Path
    """Holds the engines' directories."""
    cache: pathlib.Path
    python: pathlib.Path
    """The interpreter that has vLLM."""
    backend: Backend
    containment: Containment
    monitor: GpuMonitor
    version: str
    load_timeout: float
    stop_grace: float
    reclaim_timeout: float
    adoption_timeout: float
    log_limit_bytes: int
    stall_timeout: float = 120.0
    quarantine_retry: float = 30.0
    restarts: Policy = dataclasses.field(default_factory=Policy)
    simulation: pathlib.Path | None = None
    """Where the processes of a simulated host write down what they hold."""
    engine_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of all engines, where clients leave them open."""
    use_case: str = ""
    """What models are loaded for where clients do not say."""
    profiles: Profiles = dataclasses.field(default_factory=Profiles)
    """What loads took; `profiles.lookup` is for plans."""
    peaks: Peaks = dataclasses.field(default_factory=Peaks)
    ledger: Ledger = dataclasses.field(default_factory=Ledger)
    events: Events = dataclasses.field(default_factory=Events)
    losses: Losses = dataclasses.field(default_factory=lambda: Losses(Events()))
