"""How a model is to be loaded, as options."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from vllmd.cli.options.model import absolute
from vllmd.cli.options.settings import Revision, Settings, parse_settings
from vllmd.cli.options.use_case import UseCase


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was typed."""

    settings: Settings = None
    revision: Revision = ""
    auto_config: Annotated[
        bool, typer.Option("--auto-config/--no-auto-config", help="Let the daemon choose what you don't set.")
    ] = True
    use_case: UseCase = None

    def options(self) -> dict[str, Any]:
        """Name it as the client does."""
        return {
            "revision": self.revision,
            "engine_args": parse_settings(self.settings or [], "--set"),
            "auto_config": self.auto_config,
            "use_case": self.use_case or "",
        }


Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="NAME=PATH",
        help="A LoRA adapter, a directory on the daemon's host, and what `generate --lora` calls it. May be repeated.",
        show_default=False,
    ),
]


def parse_adapters(items: Sequence[str]) -> dict[str, str]:
    """Read `NAME=PATH` items.

    Raises:
        typer.BadParameter: one is none, or a name comes twice.
    """
    adapters: dict[str, str] = {}
    for item in items:
        name, _, path = item.partition("=")
        if not name or not path:
            raise typer.BadParameter(f"{item!r} is not NAME=PATH", param_hint="--lora")
        if name in adapters:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--lora")
        adapters[name] = absolute(path)
    return adapters
