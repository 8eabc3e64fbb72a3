"""Which steps an installation takes, or why it can't be. Pure, but for reading the files that we bring along."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator

from vllmd.installation import units
from vllmd.installation.layout import Layout
from vllmd.installation.seen import Seen
from vllmd.installation.steps import Keep, Remove, Run, Step, Upgrade, Write

_BEGIN = """\
# vllmd's configuration: `vllmd config show --defaults` lists all settings, with the reasons, and `vllmd config check`
# checks what stands here. Drop-ins go into vllmd.toml.d/*.toml.
"""


class Refused(Exception):
    """It is not done; each of the arguments is a reason, with what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for."""

    engine_python: pathlib.Path | None = None
    start: bool = True


def install(layout: Layout, seen: Seen, wish: Wish) -> list[Step]:
    """Work out what to do; done once more it replaces what has changed.

    Raises:
        Refused: with every reason.
    """
    if reasons := [*_against(layout, seen, wish)]:
        raise Refused(*reasons)
    steps: list[Step] = [_file(layout.unit, _unit(layout, seen), seen.unit)]
    if layout.sysusers is not None and layout.tmpfiles is not None:
        steps.append(_file(layout.sysusers, units.text(units.SYSUSERS), seen.sysusers))
        steps.append(_file(layout.tmpfiles, units.text(units.TMPFILES), seen.tmpfiles))
        steps.append(Run(("systemd-sysusers", str(layout.sysusers)), "the user vllmd, and the group vllmd-admin"))
        steps.append(Run(("systemd-tmpfiles", "--create", str(layout.tmpfiles)), "directories"))
    steps.append(_configuration(layout, seen, wish))
    steps += _start(layout, seen, wish)
    return steps


def uninstall(layout: Layout, seen: Seen, purge: bool) -> list[Step]:
    """Work out what to do; what people have written, and what models and loads have left, stays unless *purge*.

    Raises:
        Refused: with every reason.
    """
    if reasons := [*_whose(layout, seen)]:
        raise Refused(*reasons)
    steps: list[Step] = []
    if seen.unit is not None:
        if seen.booted:
            steps.append(Run((*layout.systemctl, "disable", "--now", layout.unit.name), "ends every engine"))
        else:
            steps.append(Run((*layout.systemctl, "disable", layout.unit.name)))
    ours = (layout.unit, seen.unit), (layout.sysusers, seen.sysusers), (layout.tmpfiles, seen.tmpfiles)
    steps += [Remove(path) for path, text in ours if path is not None and text is not None]
    if seen.unit is not None and seen.booted:
        steps.append(Run((*layout.systemctl, "daemon-reload")))
    kept = [(layout.configuration.parent, "settings")] if layout.configuration.parent.is_dir() else []
    for path, what in [*kept, *((path, f"{size / (1 << 30):.1f} GiB") for path, size in seen.data)]:
        steps.append(Remove(path, what) if purge else Keep(str(path), f"{what}; --purge removes it"))
    return steps


def _against(layout: Layout, seen: Seen, wish: Wish) -> Iterator[str]:
    yield from _whose(layout, seen)
    if not seen.booted and wish.start:
        yield "systemd does not run here; --no-start installs and enables it for the next boot."
    if not seen.has_program:
        yield f"There is no program {seen.programs / 'vllmd'}: install vllmd into an environment, and run that one's."
    try:
        _unit(layout, seen)
    except ValueError as error:
        yield f"{error}: make the environment elsewhere, such as in /opt/vllmd."
    if seen.unreachable:
        yield (
            f"The service runs as the user vllmd, who can't come to this program: {seen.unreachable}. "
            "Make the environment elsewhere, such as in /opt/vllmd."
        )
    if seen.changeable:
        yield (
            "The service may end other users' processes, and others could change what it runs: "
            f"{seen.changeable}. Make the environment as root, such as in /opt/vllmd."
        )
    if seen.engine_unreachable:
        yield f"The service runs as the user vllmd, who can't come to engine_python: {seen.engine_unreachable}."
    yield from (f"The configuration is broken: {problem}." for problem in seen.configuration_problems)
    if wish.engine_python is not None and seen.engine_python not in ("", str(wish.engine_python)):
        yield f"engine_python is {seen.engine_python} by {seen.engine_python_origin}: change it there."


def _whose(layout: Layout, seen: Seen) -> Iterator[str]:
    if layout.user and seen.root:
        yield "root's is the host's: without --user, please."
    if not layout.user and not seen.root:
        yield "Only root may do that for the host; --user does it for you alone."
    if seen.packaged is not None:
        yield f"vllmd is here as a package, with {seen.packaged}: the package manager upgrades and removes it."
    if seen.masked:
        yield f"{layout.unit.name} is masked: `{' '.join(layout.systemctl)} unmask {layout.unit.stem}` first."


def _unit(layout: Layout, seen: Seen) -> str:
    return units.unit(units.USER if layout.user else units.HOST, seen.programs)


def _file(path: pathlib.Path, text: str, before: str | None) -> Step:
    return Keep(str(path), "as it is to be") if text == before else Write(path, text, before)


def _configuration(layout: Layout, seen: Seen, wish: Wish) -> Step:
    if wish.engine_python is None or seen.engine_python:
        if seen.configured:
            return Keep(str(layout.configuration), "yours")
        return Write(layout.configuration, _BEGIN, None)
    line = f"engine_python = {json.dumps(str(wish.engine_python))}\n"
    if seen.configured:
        return Write(layout.configuration.with_name("vllmd.toml.d") / "engine_python.toml", line, None)
    return Write(layout.configuration, f"{_BEGIN}{line}", None)


def _start(layout: Layout, seen: Seen, wish: Wish) -> Iterator[Step]:
    if seen.booted:
        yield Run((*layout.systemctl, "daemon-reload"))
    if not seen.enabled:
        yield Run((*layout.systemctl, "enable", layout.unit.name))
    if not wish.start:
        return
    if seen.active and seen.other is not None:
        restart = f"`{' '.join(layout.systemctl)} restart {layout.unit.stem}` runs this one's, and ends every engine"
        yield Keep(f"the daemon of {seen.other}", restart)
    elif seen.active:
        why = "the new code in the same process: engines stay"
        command = (*layout.systemctl, "kill", "--signal=USR2", "--kill-whom=main", layout.unit.name)
        yield Upgrade(Run(command, why), layout.address)
    else:
        yield Run((*layout.systemctl, "start", layout.unit.name), "returns when it serves")
