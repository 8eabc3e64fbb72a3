"""The `events` command."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from vllmd.cli import human, terminal
from vllmd.cli.output.gpu_names import GpuNames, gpus_of
from vllmd.cli.session import Format, Output, connect

if TYPE_CHECKING:
    from vllmd.v1.event_pb2 import Event

_INDENT = " " * 37
_SHOWN_PIDS = 8


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

    Each event says which engine, GPUs and processes it is about.

    Examples:
      vllmd-cli events -n 50
      vllmd-cli events -f
      vllmd-cli events -f -o json | jq 'select(.kind == "KIND_KILL")'
    """
    with connect(context) as client, client.events(last=last, follow=follow) as stream:
        gpus, width, told = gpus_of(client), terminal.stdout().width, 0
        for event in stream:
            if missed := stream.missed_count - told:
                told += missed
                count = human.count(missed, "event")
                terminal.stderr().print(f"… {count} missed: they came faster than they were read.")
            if output is Format.JSON:
                terminal.json_line(event)
            else:
                terminal.write(as_text(event, gpus, width))


def as_text(event: Event, gpus: GpuNames, width: int) -> str:
    """Write an event as lines: when, what kind, of which engine and what; and below which GPUs and processes, and why.

    Args:
        event: what happened.
        gpus: what to call GPUs.
        width: columns to keep to, if words allow it.
    """
    from datetime import UTC

    time = event.time.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    engine, message = human.short(event.engine), gpus.in_text(event.message, event.gpus)
    subject = "" if not engine or _names(message, engine) else f"{engine}: "
    lines = _wrapped(f"{time}  {human.kind(event.kind):<14}  ", f"{subject}{message}", width)
    if about := _about(event, message, gpus):
        lines += _wrapped(_INDENT, about, width)
    for reason in event.reasons:
        lines += _wrapped(_INDENT, f"because {gpus.in_text(reason, event.gpus)}", width)
    return "".join(f"{line}\n" for line in lines)


def _about(event: Event, message: str, gpus: GpuNames) -> str:
    """Name the GPUs and processes that *message* does not."""
    labels = [label for label in map(gpus.label, event.gpus) if not _names(message, label)]
    pids = [pid for pid in map(str, event.pids) if not _names(message, pid)]
    more = f" and {len(pids) - _SHOWN_PIDS} more" if len(pids) > _SHOWN_PIDS else ""
    parts = [", ".join(labels)] if labels else []
    if pids:
        parts.append(f"pid{'s' if len(pids) > 1 else ''} {', '.join(pids[:_SHOWN_PIDS])}{more}")
    return "; ".join(parts)


def _names(message: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", message) is not None


def _wrapped(start: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=start, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    ) or [start]
