"""Examines the host for the settings that a daemon would read: has it looked at and judged, and hangs on nothing."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from vllmd.config import Settings
from vllmd.configuration.files import NAME
from vllmd.configuration.problems import ConfigurationError, Problem
from vllmd.configuration.reading import Reading, Sources
from vllmd.doctor import containment, engine, gpus, host, leftovers, listening, places
from vllmd.doctor.engine import EngineFacts
from vllmd.doctor.facts import containment as see_containment
from vllmd.doctor.facts import engine as see_engine
from vllmd.doctor.facts import gpus as see_gpus
from vllmd.doctor.facts import host as see_host
from vllmd.doctor.facts import leftovers as see_leftovers
from vllmd.doctor.facts import listening as see_listening
from vllmd.doctor.facts import places as see_places
from vllmd.doctor.finding import Finding, Level, fail, unknown
from vllmd.doctor.gpus import GpuFacts
from vllmd.doctor.listening import ListeningFacts
from vllmd.errors import Unavailable
from vllmd.interpreter import Interpreter
from vllmd.tasks import in_thread

PATIENCE_SECONDS = 25.0
"""What one look may take: a driver that is stuck, or a file system of the network, may hang for ever."""

_OF_THE_SERVICE = pathlib.Path("/etc/vllmd") / NAME

T = TypeVar("T")  # the PEP 695 form needs Python 3.12


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """What was found about one part of the host."""

    name: str
    findings: tuple[Finding, ...]


def refused(problems: Iterable[Problem]) -> Section:
    """Say that the configuration can't be in force: then it is not known what a daemon would use."""
    wrong = (
        fail("configuration", str(problem), "Correct it; the rest is checked once it can be read.")
        for problem in problems
    )
    return Section("configuration", tuple(wrong))


async def examine_sources(file: pathlib.Path | None, flags: Mapping[str, Any]) -> list[Section]:
    """Examine the host for what a daemon of this user, with that file and those flags, would read."""
    try:
        reading = Sources(path=None if file is None else file.absolute(), flags=flags).read()
    except ConfigurationError as error:
        return [refused(error.problems)]
    return await examine(reading)


async def examine(reading: Reading, patience: float = PATIENCE_SECONDS) -> list[Section]:
    """Look at one part of the host after the other, and judge it."""
    settings, began = reading.settings, see_host.offset()
    found = [Section("configuration", (_configuration(reading),))]

    seen = await _look(lambda: see_gpus.look(settings.simulate), patience)
    driver = seen if isinstance(seen, GpuFacts) else None
    count, unit = _gpu_count(driver), driver.unit if driver else None

    cuda = driver.inventory.cuda_version if driver else ""
    fake = settings.backend == "fake"
    interpreter = Interpreter(settings.engine_python, settings.pass_environment)
    python = await _look(lambda: see_engine.look(interpreter, fake=fake, driver_cuda=cuda, gpus=count), patience)
    if isinstance(seen, GpuFacts) and isinstance(python, EngineFacts):
        seen = dataclasses.replace(seen, needed=not engine.without_gpus(python))
    found.append(_section("GPUs", seen, gpus.judge))
    found.append(_section("engines", python, engine.judge))

    cgroups = await _look(lambda: see_containment.look(settings, unit), patience)
    found.append(_section("containment", cgroups, containment.judge))

    found.append(_section("places", await _look(lambda: see_places.look(settings), patience), places.judge))

    heard = await _look(lambda: see_listening.look(settings), patience)
    found.append(_section("daemon", heard, listening.judge))
    pid = _daemon_pid(heard)

    given = await _look(lambda: see_host.look(pid, count, began), patience)
    found.append(_section("host", given, host.judge))

    left = await _look(lambda: see_leftovers.look(_engines(settings), serving=pid is not None), patience)
    found.append(_section("leftovers", left, leftovers.judge))
    return found


async def _look(look: Callable[[], T], patience: float) -> T | Finding:
    """Look at something in a thread of its own; what keeps us from seeing it is a finding too."""
    try:
        return await in_thread("looking at the host", look, patience)
    except Unavailable:
        todo = "A driver or a file system is stuck: see `dmesg` and `mount`."
        return fail("look", f"nothing comes back within {patience:g} seconds", todo)
    except OSError as error:
        return unknown("look", f"can't be seen: {error}")


def _section(name: str, seen: T | Finding, judge: Callable[[T], Iterator[Finding]]) -> Section:
    if isinstance(seen, Finding):
        return Section(name, (dataclasses.replace(seen, check=name),))
    return Section(name, tuple(judge(seen)))


def _configuration(reading: Reading) -> Finding:
    file = str(reading.path) if reading.path.exists() else f"defaults: there is no {reading.path}"
    changed = sorted(name for name, origin in reading.origins.items() if origin.startswith(("$", "--")))
    over = f"; over it: {', '.join(changed)}" if changed else ""
    elsewhere = _OF_THE_SERVICE.exists() and reading.path != _OF_THE_SERVICE
    todo = f"The service reads another one: --config {_OF_THE_SERVICE} examines the host for that." if elsewhere else ""
    return Finding("read from", Level.OK, file + over, todo)


def _gpu_count(driver: GpuFacts | None) -> int | None:
    if driver is None or not driver.inventory.available:
        return None if driver is None or driver.kernel_driver else 0
    return len(driver.inventory.gpus)


def _daemon_pid(heard: ListeningFacts | Finding) -> int | None:
    if isinstance(heard, Finding):
        return None
    return next((lock.pid for lock in heard.locks if lock.held and lock.pid), None)


def _engines(settings: Settings) -> pathlib.Path:
    return settings.runtime_dir / see_places.ENGINES
