"""The `version` command, and `--version`."""

from __future__ import annotations

import json
import sys

import typer

import vllmd
from vllmd.cli.session import QUICK_SECONDS, Format, Output, connect


def version(context: typer.Context, output: Output = Format.TEXT) -> None:
    """Show the versions of this command and of the daemon, where one answers.

    Example:
      vllmd-cli version
    """
    from vllmd.client import VllmdError

    with connect(context) as client:
        try:
            daemon = client.status(timeout=QUICK_SECONDS).host.version
        except VllmdError:
            # That there is no daemon is an answer here: who asks for versions may be looking for why.
            daemon = None
        if output is Format.JSON:
            json.dump({"client": vllmd.__version__, "daemon": daemon, "address": client.target}, sys.stdout)
            print()
            return
        print(_own_line())
        print(f"vllmd      {daemon or 'no answer'} at {client.target}")


def print_own_version(context: typer.Context, wanted: bool) -> None:
    """Print the version of this command and end, as `--version` does everywhere."""
    # While a shell completes what follows, the option is read as well.
    if wanted and not context.resilient_parsing:
        print(_own_line())
        raise typer.Exit


def _own_line() -> str:
    return f"vllmd-cli  {vllmd.__version__}"
