"""What every command needs: where the daemon is and in which form to answer."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vllmd.client import Client

QUICK_SECONDS = 10.0
"""A daemon that takes longer over a question about its own state hangs."""


class Format(enum.StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[
    Format,
    typer.Option(
        "--output", "-o", help="`text` for people; `json` for programs, one object per line where it streams."
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """The global options."""

    address: str | None


def connect(context: typer.Context) -> Client:
    """Make a client of the daemon that the global options name."""
    from vllmd.client import Client

    session = context.find_object(Session)
    return Client(session.address if session else None)
