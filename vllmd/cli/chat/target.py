"""Whom a chat talks to: an engine, a lease, or a model that is loaded for it and released after it."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from vllmd.cli import human, terminal
from vllmd.cli.failures import FAILED
from vllmd.cli.options.lease import is_lease
from vllmd.cli.output.progress import load_model
from vllmd.cli.output.reclaim import unproven
from vllmd.cli.session import QUICK_SECONDS, Format

if TYPE_CHECKING:
    from vllmd.client import Client, LoadedModel
    from vllmd.v1.engine_pb2 import Engine

# As the daemon makes them up, or with a digit too few or too many: nobody wants such a slip fetched from the hub.
_ENGINE = re.compile(r"[a-z0-9-]+-[0-9a-f]{3,5}")


@dataclasses.dataclass(slots=True)
class Target:
    """Where requests go."""

    name: str
    """An engine or a lease."""
    title: str
    """What to call it."""
    reload: Callable[[], None] | None = None
    """Loads the model again; `None` where this chat has loaded none."""


@contextmanager
def opened(client: Client, source: str, options: dict[str, Any]) -> Iterator[Target]:
    """Find what *source* names, or load it with *options* and release it at the end."""
    engine = find_engine(client, source)
    if engine is None and not is_lease(source):
        held = _Held(lambda: load_model(client, source, options | {"hold": True}, Format.TEXT))
        try:
            yield held.target
        finally:
            held.close()
        return
    if any(options[name] for name in ("revision", "engine_args", "use_case", "lora_adapters")):
        raise typer.BadParameter("it is loaded already, so that nothing can be set any more", param_hint=source)
    if engine is None:
        yield Target(source if source.startswith("leases/") else f"leases/{source}", "The lease's engine")
    else:
        yield Target(engine.name, f"{engine.model} on {human.short(engine.name)}")


def refuse_text(source: str, hint: str) -> None:
    """Refuse what has spaces: it can be a directory, and else is what was to be said.

    Raises:
        typer.BadParameter: *hint* is the argument's name.
    """
    if re.search(r"\s", source) and not os.path.isabs(source):
        message = "it is a text. Name a model, an engine or a lease, and type the text at the prompt, or pipe it."
        raise typer.BadParameter(message, param_hint=hint)


def find_engine(client: Client, source: str) -> Engine | None:
    """Get the engine of that name, if it is one's; a name without a slash may be a model's as well.

    Raises:
        VllmdError: it says that it is an engine's, or looks so, and is none's.
    """
    from vllmd.client import VllmdError

    explicit = source.startswith("engines/")
    if is_lease(source) or ("/" in source and not explicit):
        return None
    try:
        return client.engine(source, timeout=QUICK_SECONDS)
    except VllmdError as error:
        # A name with dots is refused as no engine's.
        if explicit or error.code.name not in ("NOT_FOUND", "INVALID_ARGUMENT"):
            raise
        if _ENGINE.fullmatch(source) and not os.path.isdir(source):
            error.add_note("Those there are: vllmd-cli engines")
            error.add_note(f"If a model is called {source}, load it first: vllmd-cli load {source}")
            raise
        return None


class _Held:
    """A model that is loaded for as long as the chat takes."""

    def __init__(self, load: Callable[[], LoadedModel]) -> None:
        self._load = load
        self._loaded = load()
        self.target = Target("", "", self.reload)
        self._name()

    def reload(self) -> None:
        """Load it again, as its lease or its engine was lost."""
        _end(self._loaded)
        self._loaded = self._load()
        self._name()

    def close(self) -> None:
        """Release it, and say what became of its engine."""
        if (engine := _end(self._loaded)) is not None:
            _tell(engine)

    def _name(self) -> None:
        self.target.name = self._loaded.lease.name
        self.target.title = f"{self._loaded.engine.model} on {human.short(self._loaded.engine.name)}"


def _end(loaded: LoadedModel) -> Engine | None:
    """Release the lease; `None` if it has ended already, as with its engine or its daemon."""
    from vllmd.client import DaemonUnreachable, VllmdError

    try:
        return loaded.release()
    except VllmdError as error:
        if isinstance(error, DaemonUnreachable) or error.code.name == "NOT_FOUND":
            return None
        raise


def _tell(engine: Engine) -> None:
    name, state = human.short(engine.name), human.state(engine.state)
    if unproven(engine):
        terminal.stderr().print(f"Released, but {name} is NOT proven to be gone.", style="bold red")
        terminal.print_command(terminal.stderr(), f"vllmd-cli engines {name}")
        raise typer.Exit(FAILED)
    terminal.stderr().print(f"Released: {name} is {state}." if engine.state else "Released.", style="dim")
