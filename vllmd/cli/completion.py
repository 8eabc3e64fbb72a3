"""Names for shell completion."""

from __future__ import annotations

import typer

from vllmd.cli.session import Session, connect

_PATIENCE_SECONDS = 0.5


def engine_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the engines of the daemon; without one, offer nothing."""
    prefix = "engines/" if incomplete.startswith("engines/") else ""
    names = (prefix + name.removeprefix("engines/") for name in _engines(context))
    return [name for name in names if name.startswith(incomplete)]


def _engines(context: typer.Context) -> list[str]:
    # The shell shows whatever a completer prints or raises in the middle of the line that is being typed.
    try:
        root = context.find_root()
        root.obj = Session(root.params.get("address"))
        with connect(context) as client:
            return [engine.name for engine in client.engines(timeout=_PATIENCE_SECONDS)]
    except Exception:  # noqa: BLE001 - whatever it was, a prompt is no place to say it
        return []
