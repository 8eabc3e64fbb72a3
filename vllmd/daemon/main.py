"""Where `vllmd` begins: it reads the command line, runs the daemon, and says how that ended."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import pydantic
import uvloop

from vllmd.config import Settings
from vllmd.daemon.options import parser, settings_of
from vllmd.daemon.signals import blocked
from vllmd.errors import VllmdError

_log = logging.getLogger("vllmd")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns the exit status."""
    arguments = parser()
    namespace = arguments.parse_args(argv)
    logging.basicConfig(
        level=namespace.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        settings = settings_of(namespace)
    except pydantic.ValidationError as error:
        problems = "; ".join(f"--{str(item['loc'][0]).replace('_', '-')}: {item['msg']}" for item in error.errors())
        arguments.error(problems)
    with blocked():
        return _run(settings, check=namespace.check)


def _run(settings: Settings, check: bool) -> int:
    from vllmd.daemon import build, run  # only now, so that --help and --version answer at once

    try:
        if check:
            build.check(settings)
            sys.stdout.write(f"{run.CHECKED}\n")
            return 0
        end = uvloop.run(run.run(settings))
        if end is run.End.UPGRADE:
            os.execv(sys.executable, run.command())  # noqa: S606 - the very program that runs, with its own arguments
        return end
    except VllmdError as error:
        _log.error("%s (%s)", error.message, error.reason)
    except OSError as error:
        _log.error("%s", error)
    return 1
