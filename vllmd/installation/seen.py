"""Looks at what there is of an installation, and at what would be in its way."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

from vllmd.configuration.problems import ConfigurationError
from vllmd.configuration.reading import Sources
from vllmd.installation.layout import Layout
from vllmd.installation.trust import changeable, unreachable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was there."""

    root: bool
    """Whether this is run by root."""
    booted: bool
    """Whether systemd runs here."""
    active: bool = False
    """Whether the service does."""
    other: pathlib.Path | None = None
    """Where the programs are that a daemon which runs was started with, if not these."""
    enabled: bool = False
    masked: bool = False
    packaged: pathlib.Path | None = None
    """A package's unit."""
    unit: str | None = None
    """The text of our unit, as of the next ones; `None` if there is none."""
    sysusers: str | None = None
    tmpfiles: str | None = None
    configured: bool = False
    """Whether there is a configuration."""
    configuration_problems: tuple[str, ...] = ()
    engine_python: str = ""
    """What the configuration says, and where; empty if it says nothing."""
    engine_python_origin: str = ""
    data: tuple[tuple[pathlib.Path, int], ...] = ()
    """The directories of the daemon's that are there, each with what it holds, in bytes."""
    programs: pathlib.Path = pathlib.Path()
    """Where `vllmd` and `python` of the environment are that this runs in."""
    has_program: bool = True
    has_vllm: bool = False
    """Whether vLLM is in that environment as well."""
    unreachable: str = ""
    """What keeps the service's user from its programs."""
    changeable: str = ""
    """Who but root could change them."""
    engine_unreachable: str = ""
    """What keeps it from the interpreter of engines."""


def look(layout: Layout, engine_python: pathlib.Path | None, *, removes: bool = False) -> Seen:
    """Look at all of it.

    Args:
        layout: where.
        engine_python: the interpreter that is asked for, if any is.
        removes: for an uninstallation: measure what the daemon keeps, and look at none of the code.
    """
    configured, origin, problems = _configured(layout)
    engines = engine_python or (pathlib.Path(configured) if "/" in configured else None)
    programs = pathlib.Path(sys.prefix) / "bin"
    own = () if removes or layout.user else (programs / "python", *_environment(programs.parent))
    packaged = [path for path in layout.packaged if path.exists()]
    return Seen(
        root=os.geteuid() == 0,
        booted=pathlib.Path("/run/systemd/system").is_dir(),
        active=_told([*layout.systemctl, "is-active"], layout) in ("active", "reloading", "activating"),
        other=_other(programs, _told([*layout.systemctl, "show", "--value", "--property=MainPID"], layout)),
        enabled=_told([*layout.systemctl, "is-enabled"], layout) == "enabled",
        masked=os.path.realpath(layout.unit) == os.devnull,
        packaged=packaged[0] if packaged else None,
        unit=_text(layout.unit),
        sysusers=_text(layout.sysusers),
        tmpfiles=_text(layout.tmpfiles),
        configured=layout.configuration.exists(),
        configuration_problems=problems,
        engine_python=configured,
        engine_python_origin=origin,
        data=tuple((path, _size(path) if removes else 0) for path in layout.data if path.is_dir()),
        programs=programs,
        has_program=os.access(programs / "vllmd", os.X_OK),
        has_vllm=importlib.util.find_spec("vllm") is not None,
        unreachable=next(filter(None, map(unreachable, own)), ""),
        changeable=next(filter(None, map(changeable, own)), ""),
        engine_unreachable="" if layout.user or engines is None else unreachable(engines),
    )


def _environment(prefix: pathlib.Path) -> list[pathlib.Path]:
    """List what code comes from: this environment, and wherever else Python looks, but for its own library."""
    library = pathlib.Path(sys.base_prefix) / sys.platlibdir
    paths = [pathlib.Path(__file__).parents[1], *(pathlib.Path(path) for path in sys.path[1:] if os.path.isdir(path))]
    return [prefix, *(path for path in paths if not path.is_relative_to(library) and not path.is_relative_to(prefix))]


def _configured(layout: Layout) -> tuple[str, str, tuple[str, ...]]:
    if not layout.configuration.exists():
        return "", "", ()
    try:  # what the service will read: not this shell's environment
        reading = Sources(path=layout.configuration, environment={"HOME": os.path.expanduser("~")}).read()
    except ConfigurationError as error:
        return "", "", tuple(map(str, error.problems))
    origin = reading.origins["engine_python"]
    return ("", "", ()) if origin == "default" else (str(reading.settings.engine_python), origin, ())


def _text(path: pathlib.Path | None) -> str | None:
    try:
        return path.read_text(errors="replace") if path is not None else None
    except FileNotFoundError:
        return None


def _told(command: Sequence[str], layout: Layout) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(
        [*command, layout.unit.name], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip()


def _other(programs: pathlib.Path, pid: str) -> pathlib.Path | None:
    try:
        line = pathlib.Path(f"/proc/{int(pid)}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None  # no systemd, no such unit, or nobody runs: 0
    interpreter = os.fsdecode(line.partition(b"\0")[0])
    same = not os.path.isabs(interpreter) or os.path.realpath(os.path.dirname(interpreter)) == os.path.realpath(
        programs
    )
    return None if same else pathlib.Path(interpreter).parent


def _size(path: pathlib.Path) -> int:
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except OSError:
                pass  # it has gone meanwhile
    return total
