"""How a model is asked for on the command line: its `key=value` settings and its revision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from vllmd.cli.options.inputs import from_json

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One of vLLM's engine arguments; the value is JSON if it parses, else text. May be repeated.",
    ),
]

Revision = Annotated[str, typer.Option("--revision", metavar="REV", help="A branch, tag or commit of the model.")]


def parse_settings(items: Sequence[str], option: str) -> dict[str, Any]:
    """Read `key=value` items; a value is JSON if it parses, else a string."""
    settings: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        key = spelled(key.strip())
        if not equals or not key:
            raise typer.BadParameter(f"{item!r} is not KEY=VALUE", param_hint=option)
        if key in settings:
            raise typer.BadParameter(f"{key} is set twice", param_hint=option)
        settings[key] = _value(text)
    return settings


def spelled(name: str) -> str:
    """Spell an argument as vLLM's Python does, as `vllmd.client` would: this needs no gRPC."""
    return name.removeprefix("--").replace("-", "_")


def _value(text: str) -> Any:
    try:
        return from_json(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(constant: str) -> None:
    # Python reads NaN and Infinity, which JSON has not.
    raise ValueError(constant)
