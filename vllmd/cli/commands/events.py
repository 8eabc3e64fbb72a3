"""The `events` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli.session import Format, Output, connect

if TYPE_CHECKING:
    from vllmd.v1.event_pb2 import Event


def events(
    context: typer.Context,
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, max=1000, help="How many of the last events to begin with.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new events until the daemon stops or Ctrl-C.")
    ] = False,
    output: Output = Format.TEXT,
) -> None:
    """Show what the daemon decided and did, with why.

    Examples:
      vllmd-cli events -n 50
      vllmd-cli events -f
      vllmd-cli events -f -o json | jq 'select(.kind == "KIND_KILL")'
    """
    with connect(context) as client, client.events(last=last, follow=follow) as stream:
        told = 0
        for event in stream:
            if missed := stream.missed_count - told:
                told += missed
                count = human.count(missed, "event")
                terminal.stderr().print(f"… {count} missed: they came faster than they were read.")
            if output is Format.JSON:
                terminal.json_line(event)
            else:
                terminal.write(as_text(event))


def as_text(event: Event) -> str:
    """Write an event as lines: when, what kind, what, and why below."""
    from datetime import UTC

    time = event.time.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    lines = [f"{time}  {human.kind(event.kind):<14}  {event.message}"]
    lines += [f"{'':37}because {reason}" for reason in event.reasons]
    return "".join(f"{line}\n" for line in lines)
