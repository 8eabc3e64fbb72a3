"""`vllmd install` and `vllmd uninstall`: say what they would do, and do it once somebody agrees."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from vllmd.configuration.places import xdg
from vllmd.installation import layout, planning, seen
from vllmd.installation.layout import Layout
from vllmd.installation.planning import Refused, Wish
from vllmd.installation.steps import Failed, Keep, Step

_INSTALL = """\
Makes this program the host's service vllmd, or with --user a service of your own: the unit for systemd, user and
groups, directories and a configuration. It says first what it will do. Done once more it replaces what has changed, and
has a daemon that runs execute the new code; engines stay.
"""
_INSTALL_EXAMPLES = """\
examples:
  /opt/vllmd/bin/vllmd install --engine-python /opt/vllm/bin/python
        the host's service, whose engines run under the Python that has vLLM
  vllmd install --dry-run
        only say what would be done
  pip install --upgrade … && vllmd install --yes
        an upgrade that engines outlive
  vllmd install --user
        without root, for this user alone

exit status:
  0  done, or said with --dry-run
  1  something did not work; once it does, the same command goes on
  2  not done: wrong usage, something in the way, or nobody agreed
"""
_UNINSTALL = """\
Takes the service off again. It ends every engine. Settings, and what models and loads have left, stay unless --purge.
"""
_UNINSTALL_EXAMPLES = """\
examples:
  vllmd uninstall --dry-run
        only say what would be done
  vllmd uninstall --purge --yes
        with settings, state, logs, and models in the service's own cache

The user vllmd and the groups stay, as files may belong to them; `userdel vllmd; groupdel vllmd-admin` removes them.
"""


def parser(command: str) -> argparse.ArgumentParser:
    """Make the command line's parser of one of the two."""
    installs = command == "install"
    result = argparse.ArgumentParser(
        f"vllmd {command}",
        description=_INSTALL if installs else _UNINSTALL,
        epilog=_INSTALL_EXAMPLES if installs else _UNINSTALL_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--user", action="store_true", help="a service of this user, not of the host")
    if installs:
        result.add_argument(
            "--engine-python", type=_program, metavar="PATH", help="the interpreter that has vLLM (default: this one)"
        )
        result.add_argument("--no-start", action="store_true", help="enable it, and leave the start to the next boot")
    else:
        result.add_argument("--purge", action="store_true", help="remove settings and what the daemon keeps, too")
    result.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    result.add_argument("-y", "--yes", action="store_true", help="do it without asking")
    return result


def main(command: str, argv: Sequence[str]) -> int:
    """Run one of the commands; returns the exit status."""
    namespace = parser(command).parse_args(argv)
    place = _layout(namespace.user)
    try:
        if command == "install":
            wish = Wish(engine_python=namespace.engine_python, start=not namespace.no_start)
            found = seen.look(place, wish.engine_python)
            steps = planning.install(place, found, wish)
        else:
            found = seen.look(place, None, removes=True)
            steps = planning.uninstall(place, found, namespace.purge)
    except Refused as refused:
        sys.stderr.write("".join(f"vllmd {command}: {reason}\n" for reason in refused.args))
        return 2
    sys.stdout.writelines(f"{line}\n" for step in steps for line in step.lines())
    if not namespace.dry_run:
        if all(isinstance(step, Keep) for step in steps):
            sys.stdout.write("nothing to do\n")
            return 0
        if not (namespace.yes or _agreed()):
            sys.stderr.write(f"vllmd {command}: nothing was done; --yes does it without asking\n")
            return 2
        if not _done(command, steps):
            return 1
    if command == "install":
        sys.stdout.writelines(f"{line}\n" for line in _hints(place, found, namespace))
    return 0


def _layout(user: bool) -> Layout:
    if not user:
        return layout.of_host()
    config, state, cache = (xdg(f"XDG_{kind}_HOME") for kind in ("CONFIG", "STATE", "CACHE"))
    runtime = pathlib.Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    return layout.of_user(config, state, cache, runtime)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stdout.write("Do this? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _done(command: str, steps: Sequence[Step]) -> bool:
    for step in steps:
        try:
            step.do()
        except (Failed, OSError) as error:
            sys.stderr.write(f"vllmd {command}: {next(step.lines())}: {error}\n")
            return False
    return True


def _hints(place: Layout, found: seen.Seen, namespace: argparse.Namespace) -> list[str]:
    """Say what is left to people."""
    hints = []
    if not (namespace.engine_python or found.engine_python or found.has_vllm):
        hints.append(f"No vLLM is beside this program: name the interpreter that has it in {place.configuration}.")
    if place.user:
        hints.append("`loginctl enable-linger` keeps it running while you are not logged in.")
    else:
        hints.append("Who is to use it: usermod -aG vllmd NAME; who is to operate it: usermod -aG vllmd-admin NAME.")
    return hints


def _program(text: str) -> pathlib.Path:
    path = pathlib.Path(text).absolute()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is no program that can be run")
    return path
