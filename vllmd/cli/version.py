"""The `version` command."""

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
        print(f"vllmd-cli  {vllmd.__version__}")
        print(f"vllmd      {daemon or 'no answer'} at {client.target}")
