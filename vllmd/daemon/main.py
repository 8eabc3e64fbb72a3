"""Where `vllmd` begins: it reads the command line, runs the daemon, and says how that ended."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Sequence

import pydantic
import uvloop

from vllmd.config import Settings
from vllmd.daemon import ambient, log_output
from vllmd.daemon.options import parser, settings_of
from vllmd.daemon.signals import blocked
from vllmd.errors import VllmdError

_log = logging.getLogger("vllmd")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns the exit status."""
    arguments = parser()
    namespace = arguments.parse_args(argv)
    log_output.set_up(namespace.log_level)
    try:
        settings = settings_of(namespace)
    except pydantic.ValidationError as error:
        problems = "; ".join(f"--{str(item['loc'][0]).replace('_', '-')}: {item['msg']}" for item in error.errors())
        arguments.error(problems)
    held = ambient.withhold()
    with blocked():
        return _run(settings, held, check=namespace.check)


def _run(settings: Settings, held: frozenset[int], check: bool) -> int:
    from vllmd.daemon import build, run  # only now, so that --help and --version answer at once

    try:
        if check:
            build.check(settings)
            sys.stdout.write(f"{run.CHECKED}\n")
            return 0
        faulthandler.enable()  # the SIGABRT of systemd's watchdog then shows where it is stuck
        end = uvloop.run(run.run(settings))
        if end is run.End.UPGRADE:
            ambient.pass_on(held)
            os.execv(sys.executable, run.command())  # noqa: S606 - the very program that runs, with its own arguments
        return end
    except VllmdError as error:
        _log.error("%s (%s)", error.message, error.reason)
    except OSError as error:
        _log.error("%s", error)
    return 1
