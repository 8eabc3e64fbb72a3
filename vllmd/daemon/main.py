"""Where `vllmd` begins: it reads the configuration, runs the daemon, and says how that ended."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import sys
from collections.abc import Sequence

import uvloop

from vllmd.config import Settings
from vllmd.configuration.problems import ConfigurationError
from vllmd.configuration.reading import Sources
from vllmd.daemon import ambient, config_command, log_output, token_command
from vllmd.daemon.options import parser, sources
from vllmd.daemon.signals import blocked
from vllmd.errors import VllmdError

_log = logging.getLogger("vllmd")
_WRONG = 2
"""The exit status of wrong usage and configuration, after which the unit does not start the daemon again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon, or `vllmd config`, `install`, `uninstall` or `token`; returns the exit status."""
    line = sys.argv[1:] if argv is None else list(argv)
    if line[:1] == ["config"]:
        return config_command.main(line[1:])
    if line[:1] == ["token"]:
        return token_command.main(line[1:])
    if line[:1] in (["install"], ["uninstall"]):
        from vllmd.daemon import install_command  # which asks a daemon, as a client: no daemon needs one

        return install_command.main(line[0], line[1:])
    arguments = parser()
    namespace = arguments.parse_args(line)
    where = sources(namespace)
    settings = _settings(where, arguments)
    log_output.set_up(settings.log_level)
    held = ambient.withhold()
    with blocked():
        return _run(settings, where, held, check=namespace.check)


def _settings(where: Sources, arguments: argparse.ArgumentParser) -> Settings:
    """Read the settings; the process ends if anything is wrong with them."""
    try:
        return where.read().settings
    except ConfigurationError as error:
        if any(problem.where.startswith("--") for problem in error.problems):
            arguments.print_usage(sys.stderr)
        arguments.exit(_WRONG, "".join(f"vllmd: error: {problem}\n" for problem in error.problems))


def _run(settings: Settings, where: Sources, held: frozenset[int], check: bool) -> int:
    from vllmd.daemon import build, run  # only now, so that --help and --version answer at once

    problems = [error for _, error in build.problems(settings)]
    for error in problems:
        _log.error("%s (%s)", error.message, error.reason)
    if problems:
        return _WRONG  # which no restart makes right
    if check:
        sys.stdout.write(f"{run.CHECKED}\n")
        return 0
    try:
        faulthandler.enable()  # the SIGABRT of systemd's watchdog then shows where it is stuck
        end = uvloop.run(run.run(settings, where))
        if end is run.End.UPGRADE:
            ambient.pass_on(held)
            os.execv(sys.executable, run.command())  # noqa: S606 - the very program that runs, with its own arguments
        return end
    except VllmdError as error:
        _log.error("%s (%s)", error.message, error.reason)
    except OSError as error:
        _log.error("%s", error)
    return 1
