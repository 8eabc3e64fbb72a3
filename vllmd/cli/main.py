"""The `vllmd-cli` command: its global options and its commands."""

from __future__ import annotations

import inspect
import os
from typing import Annotated

import typer

from vllmd.cli import terminal
from vllmd.cli.commands.chat import chat
from vllmd.cli.commands.doctor import doctor
from vllmd.cli.commands.embed import embed
from vllmd.cli.commands.engines import engines
from vllmd.cli.commands.events import events
from vllmd.cli.commands.generate import generate
from vllmd.cli.commands.gpus import gpus
from vllmd.cli.commands.load import load
from vllmd.cli.commands.logs import logs
from vllmd.cli.commands.plan import plan
from vllmd.cli.commands.profiles import profiles
from vllmd.cli.commands.ps import ps
from vllmd.cli.commands.reclaim import reclaim
from vllmd.cli.commands.release import release
from vllmd.cli.commands.status import status
from vllmd.cli.commands.stop import stop
from vllmd.cli.commands.tokenize import tokenize
from vllmd.cli.commands.verify import verify
from vllmd.cli.commands.version import print_own_version, version
from vllmd.cli.commands.watch import watch
from vllmd.cli.completion import completion
from vllmd.cli.failures import Commands
from vllmd.cli.session import Session


def _flowing(text: str) -> str:
    """Join the lines of each paragraph, for typer breaks them where the source does; examples are indented."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(one if "\n " in one else one.replace("\n", " ") for one in paragraphs)


app = typer.Typer(
    name="vllmd-cli",
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit status: 0 done, 1 failed, 2 misuse, refused values included, 3 no daemon answers, "
    "130 ended by Ctrl-C.",
)

for command in (
    status, watch, gpus, plan, load, chat, generate, embed, tokenize, release, stop, engines, profiles, logs, ps,
    reclaim, verify, doctor, events, version, completion,
):  # fmt: skip
    app.command(help=_flowing(command.__doc__ or ""))(command)


@app.callback()
def vllmd_cli(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="VLLMD_ADDRESS",
            metavar="ADDRESS",
            help="Where the daemon listens: a socket's path, `unix:PATH` or `HOST:PORT`. Default: your own daemon's "
            "socket in `$XDG_RUNTIME_DIR/vllmd/` or `/tmp/vllmd-UID/` if there is one, else `/run/vllmd/vllmd.sock`.",
            show_default=False,
        ),
    ] = None,
    own_version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version of this command and exit; `version` asks the daemon, too.",
            callback=print_own_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Load models into vLLM engines on this host, generate with them, and see what they hold."""
    context.obj = Session(address)


def main() -> None:
    """Run the command line."""
    terminal.open_what_is_closed()
    # gRPC's own log lines would land between ours; what they say is in the errors as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    app(prog_name="vllmd-cli")
