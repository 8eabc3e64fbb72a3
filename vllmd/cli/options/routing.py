"""How an engine is to treat a request, as options."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from vllmd.cli.options.numbers import INT32, within

_PANEL = "Request"

Priority = Annotated[
    int,
    typer.Option(
        metavar="N",
        callback=within(INT32),
        help="Lower ones come first, with an engine loaded with `--set scheduling_policy=priority`.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Lora = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="The LoRA adapter to use, by the name that `load --lora` gave it.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What was typed."""

    lora: Lora = ""
    priority: Priority = 0
    cache_salt: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Share cached prompts only with requests of the same salt.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = ""

    def options(self) -> dict[str, Any]:
        """Name what was given as the client does."""
        given = {"lora": self.lora, "priority": self.priority, "cache_salt": self.cache_salt}
        return {name: value for name, value in given.items() if value}
