"""`vllmd config`: shows the configuration that a daemon would be started with, or all that is wrong with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vllmd.config import Settings
from vllmd.configuration import show
from vllmd.configuration.problems import ConfigurationError, Problem
from vllmd.configuration.reading import DEFAULT, Reading
from vllmd.daemon.options import add_settings, sources
from vllmd.errors import VllmdError

_DESCRIPTION = """\
Shows and checks the daemon's configuration, without a daemon: what one would be started with, by the same user, in the
same environment and with the same options. A running one reads it again at SIGHUP.
"""
_EPILOG = """\
examples:
  vllmd config check
        exit status 0 if a daemon could start with it, else 1, and FILE:LINE: KEY: what is wrong, for each mistake
  vllmd config check --config /etc/vllmd/vllmd.toml
        before `systemctl reload vllmd`
  vllmd config show --origin
        what is set, and where each value comes from
  vllmd config show --defaults
        all there is, with the reasons; what is not set is commented out
"""


def parser() -> argparse.ArgumentParser:
    """Make the command line's parser."""
    result = argparse.ArgumentParser(
        "vllmd config", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = result.add_subparsers(dest="command", required=True, metavar="{show,check}")
    shown = commands.add_parser("show", help="print it as a commented TOML file")
    shown.add_argument("--defaults", action="store_true", help="also what is not set, commented out")
    shown.add_argument("--origin", action="store_true", help="say of each value where it comes from")
    checked = commands.add_parser("check", help="name everything that is wrong with it")
    for command in (shown, checked):
        add_settings(command)
    return result


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    namespace = parser().parse_args(argv)
    try:
        reading = sources(namespace).read()
        if namespace.command == "check":
            check(reading)
    except ConfigurationError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return 1
    if namespace.command == "check":
        there = (
            str(reading.path) if reading.path.exists() else f"there is no {reading.path}; without it the configuration"
        )
        sys.stdout.write(f"{there} is right\n")
    else:
        sys.stdout.write(show.file(reading, defaults=namespace.defaults, origin=namespace.origin))
    return 0


def check(reading: Reading) -> None:
    """Check what the daemon checks when it starts.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    from vllmd.daemon import build  # only now: it brings gRPC, which to show a file takes no time for

    if problems := [_problem(name, error, reading) for name, error in build.problems(reading.settings)]:
        raise ConfigurationError(problems)


def _problem(name: str, error: VllmdError, reading: Reading) -> Problem:
    assert name in Settings.model_fields
    one = f"{name}.{error.metadata.get('argument', '')}"  # of a table it is one entry that is wrong
    origin = reading.origins.get(one, reading.origins[name])
    return Problem(f"{name} by {DEFAULT}" if origin == DEFAULT else origin, name, error.message)
