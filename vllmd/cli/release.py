"""The `release` command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli import lease as secret
from vllmd.cli.failures import FAILED
from vllmd.cli.reclaim import kept_after, print_end, print_gone
from vllmd.cli.session import Format, Output, connect

if TYPE_CHECKING:
    from vllmd.v1.engine_pb2 import Engine


def release(
    context: typer.Context,
    lease: Annotated[
        str,
        typer.Argument(
            metavar="LEASE",
            envvar=secret.VARIABLE,
            help=f"The lease that `load` printed; `-` reads it from stdin. {secret.EXPOSED}",
        ),
    ],
    output: Output = Format.TEXT,
) -> None:
    """End a lease, and show what became of the engine.

    An engine without another lease stops; then this returns when its processes are gone and its GPU memory is
    free. Exit status 1 if that is not proven.

    Examples:
      vllmd-cli release   # with VLLMD_LEASE in the environment
      vllmd-cli release - < lease.txt
    """
    lease = secret.or_from_stdin(lease, "LEASE")
    with connect(context) as client:
        engine = client.release(lease)
        kept = kept_after(client, engine)
    if output is Format.JSON:
        from vllmd.v1.engine_service_pb2 import ReleaseResponse

        terminal.json_document(ReleaseResponse(engine=engine))
    else:
        print_released(engine, kept)
    if unproven(engine) or kept:
        raise typer.Exit(FAILED)


def print_released(engine: Engine, kept: Sequence[int] = ()) -> None:
    """Print what became of an engine when a lease on it ended."""
    console = terminal.stdout()
    if engine.HasField("reclaim"):
        print_end(console, engine)
        return
    if not engine.state:
        print_gone(console, "Released.", kept)
        return
    others = f" with {human.count(engine.lease_count, 'other lease')}" if engine.lease_count else ""
    console.print(f"Released. {human.short(engine.name)} stays {human.state(engine.state)}{others}.")


def unproven(engine: Engine) -> bool:
    """True if the engine ended and what it held is not proven to be back."""
    return engine.HasField("reclaim") and not engine.reclaim.verified
