"""Makes the daemon's parts of its settings, and checks first that they can be."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil

from vllmd import __version__
from vllmd.config import Live, Settings
from vllmd.daemon import entrance
from vllmd.daemon.claim import check_socket, make_private
from vllmd.engines.containment import Containment, group_name, open_containment
from vllmd.engines.directory import longest_root
from vllmd.engines.ground import Ground
from vllmd.errors import InvalidRequest, NotPossible, VllmdError
from vllmd.events import Events
from vllmd.gpu import products
from vllmd.gpu.losses import Losses
from vllmd.gpu.monitor import GpuMonitor
from vllmd.gpu.nvml import Nvml
from vllmd.gpu.quarantine import Quarantines
from vllmd.gpu.simulation import SimulatedGpus
from vllmd.interpreter import Interpreter
from vllmd.planner import arguments
from vllmd.profiles.installed import vllm_version
from vllmd.profiles.store import NAME as PROFILES
from vllmd.profiles.store import Profiles
from vllmd.scheduler.scheduler import Scheduler
from vllmd.watchdog.watchdog import Watchdog


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What a daemon consists of, apart from its server."""

    ground: Ground
    events: Events
    monitor: GpuMonitor
    containment: Containment
    quarantines: Quarantines
    scheduler: Scheduler
    watchdog: Watchdog
    journal: pathlib.Path


def problems(settings: Settings) -> list[tuple[str, VllmdError]]:
    """List what speaks against a daemon with these settings, each with the setting that it is about; makes nothing."""
    found: list[tuple[str, VllmdError]] = []
    if problem := longest_root(engines_root(settings)):
        error = NotPossible("PATH_TOO_LONG", f"{problem}. Choose a shorter --runtime-dir.")
        found.append(("runtime_dir", error))
    fakes = settings.backend == "fake"
    own = {name: value for name, value in settings.engine_args.items() if not (fakes and name.startswith("fake_"))}
    try:
        arguments.check_host(own, settings.allowed_engine_args)
    except InvalidRequest as refused:
        found.append(("engine_args", refused))
    found += entrance.problems(settings)
    if settings.backend == "vllm" and shutil.which(settings.engine_python) is None:
        message = f"--engine-python {settings.engine_python} is no program that can be run."
        found.append(("engine_python", NotPossible("NO_ENGINE_PYTHON", message, engine_python=settings.engine_python)))
    return found


def engines_root(settings: Settings) -> pathlib.Path:
    """Tell where the engines' directories are."""
    return settings.runtime_dir / "e"


def make_directories(settings: Settings) -> None:
    """Make the daemon's directories, and check that its sockets are in nobody's way.

    Raises:
        NotPossible: one is somebody else's, or something else is where a socket is to be.
        OSError: one can't be made.
    """
    for directory in (settings.runtime_dir, engines_root(settings), settings.cache_dir, settings.state_dir):
        make_private(directory)
    entrance.let_in(settings)
    settings.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for door in entrance.doors(settings):
        check_socket(door.path)


def build(settings: Settings, cleanup: contextlib.AsyncExitStack) -> Parts:
    """Make all parts; *cleanup* takes them apart again."""
    name = group_name(settings.runtime_dir)
    containment = open_containment(name, settings.containment, settings.engine_memory_max)
    cleanup.callback(containment.close)
    simulated = simulate(settings)
    if simulated is not None:
        cleanup.callback(simulated.remove)
    monitor = GpuMonitor(simulated or Nvml(os.environ.get("CUDA_VISIBLE_DEVICES")))
    cleanup.callback(monitor.close)
    events = Events()
    live = Live(settings)
    ground = Ground(
        root=engines_root(settings),
        cache=settings.cache_dir,
        python=settings.engine_python,
        backend=settings.backend,
        containment=containment,
        monitor=monitor,
        version=__version__,
        live=live,
        simulation=simulated.directory if simulated is not None else None,
        events=events,
        losses=Losses(events),
        profiles=Profiles(settings.state_dir / PROFILES, functools.partial(installed, settings, live)),
    )
    cleanup.push_async_callback(ground.profiles.flush)
    quarantines = Quarantines(events)
    journal = settings.state_dir / f"{name}.json"
    scheduler = Scheduler(ground, quarantines, journal=journal)
    watchdog = Watchdog(
        monitor=monitor,
        events=events,
        quarantines=quarantines,
        root=ground.root,
        containment=containment,
        live=live,
        due=ground.ledger.holding,
        looked=ground.losses.observe,
        weighed=ground.peaks.observe,
        living=scheduler.living,
        busy=scheduler.engines.busy_gpus,
    )
    cleanup.callback(watchdog.close)
    return Parts(ground, events, monitor, containment, quarantines, scheduler, watchdog, journal)


async def installed(settings: Settings, live: Live) -> str | None:
    """Find out which vLLM engines are started with now."""
    interpreter = Interpreter(settings.engine_python, live.rules.pass_environment)
    return "fake" if settings.backend == "fake" else await vllm_version(interpreter)


def simulate(settings: Settings) -> SimulatedGpus | None:
    """Make the GPUs that are to be simulated, if any are; those of a daemon that died keep what was held on them."""
    if settings.simulate is None:
        return None
    wished = products.inventory(settings.simulate)
    return SimulatedGpus(wished.gpus, settings.runtime_dir / "sim", links=wished.links)
