"""The `doctor` command, which needs no daemon."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vllmd.cli import human, terminal
from vllmd.cli.failures import FAILED
from vllmd.cli.session import Format, Output

if TYPE_CHECKING:
    from rich.console import Console

    from vllmd.doctor.examine import Section
    from vllmd.doctor.finding import Finding

_STYLES = {"ok": "green", "unknown": "dim", "warn": "yellow", "fail": "bold red"}


def doctor(
    engine_python: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The interpreter that has vLLM, in place of the configuration's.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="PATH",
            help="Read this file, as `vllmd --config` does. Default: the one that a daemon of this user would read.",
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Check what this host needs to run engines, and say what to do about what is wrong; needs no daemon.

    Checks the driver, the devices, cgroups, vLLM, directories, the socket, limits, the clock, and what was left by
    engines that died, for the configuration that a daemon of this user would read. Exit status 0 unless something
    failed; `warn` and `unknown` are no failures. As root it sees more; inside of the unit it sees what the daemon
    sees.

    Examples:
      vllmd-cli doctor
      sudo vllmd-cli doctor --engine-python /opt/vllm/bin/python
      vllmd-cli doctor -o json | jq '.checks[] | select(.level != "ok")'
    """
    sections = _examined(config, engine_python)
    findings = [finding for section in sections for finding in section.findings]
    if output is Format.JSON:
        terminal.json_object(_document(sections))
    else:
        _print(terminal.stdout(), sections)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(FAILED)


def _examined(config: pathlib.Path | None, engine_python: str | None) -> Sequence[Section]:
    import asyncio  # only now: it would add to the start of every other command

    from vllmd.doctor import examine

    flags = {} if engine_python is None else {"engine_python": _from_here(engine_python)}
    return asyncio.run(examine.examine_sources(config, flags))


def _from_here(program: str) -> pathlib.Path:
    """Make a path absolute, as the configuration wants it; a bare name, which `./python` is not, is left as it is."""
    return pathlib.Path(program).absolute() if "/" in program else pathlib.Path(program)


def _document(sections: Iterable[Section]) -> dict[str, Any]:
    checks = [
        {
            "section": section.name,
            "check": finding.check,
            "level": str(finding.level),
            "found": finding.found,
            "todo": finding.todo,
        }
        for section in sections
        for finding in section.findings
    ]
    levels = [check["level"] for check in checks]
    return {"healthy": "fail" not in levels, **{level: levels.count(level) for level in _STYLES}, "checks": checks}


def _print(console: Console, sections: Sequence[Section]) -> None:
    from rich.text import Text

    table = terminal.table("", "", "")
    table.show_header = False
    for section in sections:
        for finding in section.findings:
            level = Text(str(finding.level), _STYLES[finding.level])
            table.add_row(level, Text(finding.check, "bold"), _told(finding))
    console.print(table)
    console.print()
    console.print(_summary([finding for section in sections for finding in section.findings]))


def _told(finding: Finding) -> Any:
    from rich.text import Text

    found, todo = terminal.printable(finding.found), terminal.printable(finding.todo)
    return Text.assemble(found, *([("\n" + todo, "italic")] if todo else []))


def _summary(findings: Sequence[Finding]) -> Any:
    from rich.text import Text

    levels = [str(finding.level) for finding in findings]
    failed, warned, unseen = (levels.count(level) for level in ("fail", "warn", "unknown"))
    rest = f"{human.count(warned, 'warning')}, {unseen} unknown, {levels.count('ok')} ok."
    if failed:
        return Text(f"Not ready: {failed} failed, {rest}", "bold red")
    return Text(f"Nothing failed: {rest}", "green")
