"""The `release` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli.failures import FAILED
from vllmd.cli.options import lease as secret
from vllmd.cli.output.gpu_names import gpus_of
from vllmd.cli.output.reclaim import kept_after, print_released, unproven
from vllmd.cli.session import QUICK_SECONDS, Format, Output, connect

if TYPE_CHECKING:
    from vllmd.client import Client, VllmdError
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
        engine = _released(client, lease)
        kept = kept_after(client, engine)
        if output is Format.JSON:
            from vllmd.v1.engine_service_pb2 import ReleaseResponse

            terminal.json_document(ReleaseResponse(engine=engine))
        else:
            print_released(engine, gpus_of(client), kept)
    if unproven(engine) or kept:
        raise typer.Exit(FAILED)


def _released(client: Client, lease: str) -> Engine:
    """Release a lease; of an engine's name, say what ends one."""
    from vllmd.client import VllmdError

    try:
        return client.release(lease)
    except VllmdError as error:
        if error.reason == "LEASE_NOT_FOUND" and not secret.is_lease(lease):
            _hint(client, lease, error)
        raise


def _hint(client: Client, name: str, error: VllmdError) -> None:
    from vllmd.client import VllmdError

    try:
        engine = client.engine(name, timeout=QUICK_SECONDS)
    except VllmdError:  # it is no engine's name either
        return
    short = human.short(engine.name)
    error.add_note(f"{short} is an engine. To stop it whatever leases it has: vllmd-cli stop {short}")
