"""Shell completion: the command that prints a shell's script, and the names that it offers."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from vllmd.cli import human
from vllmd.cli.session import Session, connect

_PATIENCE_SECONDS = 0.5
_ENDED = ("RECLAIMING", "STOPPED", "FAILED")
_PROGRAM = "vllmd-cli"
# Which typer makes of the program's name, and looks for whenever it runs.
_VARIABLE = "_VLLMD_CLI_COMPLETE"


class Shell(enum.StrEnum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="The shell that is to complete.")],
) -> None:
    """Print the script that lets a shell complete commands, options and the names of engines.

    It takes effect in shells that are started afterwards. In zsh it belongs below `compinit`.

    Examples:
      echo 'source <(vllmd-cli completion bash)' >> ~/.bashrc
      echo 'source <(vllmd-cli completion zsh)' >> ~/.zshrc
      vllmd-cli completion fish > ~/.config/fish/completions/vllmd-cli.fish
    """
    from typer.completion import shell_complete

    if status := shell_complete(context.find_root().command, {}, _PROGRAM, _VARIABLE, f"source_{shell}"):
        raise typer.Exit(status)


def engine_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the engines of the daemon, those that have ended included; without a daemon, offer nothing."""
    return _begun(incomplete, _engines(context, ended=True))


def living_engines(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the engines that something can be done with."""
    return _begun(incomplete, _engines(context, ended=False))


def engines_and_models(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the engines that live, and the models that are loaded or were."""
    models = profiled_models(context, incomplete)
    return [*living_engines(context, incomplete), *models]


def doomed_pids(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the processes that a reclaim would kill; without a daemon, none."""
    try:
        root = context.find_root()
        root.obj = Session(root.params.get("address"))
        with connect(context) as client:
            listed = client.gpu_processes(timeout=_PATIENCE_SECONDS).processes
            return [str(one.pid) for one in listed if one.doomed and str(one.pid).startswith(incomplete)]
    except Exception:  # noqa: BLE001 - as for the names of engines
        return []


def profiled_models(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the models that loads were recorded of; without a daemon, none."""
    try:
        root = context.find_root()
        root.obj = Session(root.params.get("address"))
        with connect(context) as client:
            models = {profile.model for profile in client.profiles(timeout=_PATIENCE_SECONDS)}
            return sorted(model for model in models if model.startswith(incomplete))
    except Exception:  # noqa: BLE001 - as for the names of engines
        return []


def _begun(incomplete: str, names: list[str]) -> list[str]:
    prefix = "engines/" if incomplete.startswith("engines/") else ""
    whole = (prefix + name.removeprefix("engines/") for name in names)
    return [name for name in whole if name.startswith(incomplete)]


def _engines(context: typer.Context, *, ended: bool) -> list[str]:
    # The shell shows whatever a completer prints or raises in the middle of the line that is being typed.
    try:
        root = context.find_root()
        root.obj = Session(root.params.get("address"))
        with connect(context) as client:
            found = client.engines(timeout=_PATIENCE_SECONDS)
            return [engine.name for engine in found if ended or human.state(engine.state) not in _ENDED]
    except Exception:  # noqa: BLE001 - whatever it was, a prompt is no place to say it
        return []
