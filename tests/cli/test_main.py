from __future__ import annotations

from pathlib import Path

import pytest
import typer.core
import typer.main

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import status
from vllmd.cli.main import app

COMMANDS = [
    "status", "watch", "gpus", "plan", "load", "chat", "generate", "embed", "tokenize", "release", "stop", "engines",
    "logs", "version", "doctor",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_a_form_for_programs(run: Run, command: str) -> None:
    """Every command's help shows how it is typed, and every command can answer in JSON."""
    out = run(command, "--help").stdout

    assert "Example" in out
    assert f"vllmd-cli {command}" in out
    assert "--output" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_fit_80_columns(command: str) -> None:
    """They are to be copied, and a terminal would break them."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    examples = (group.commands[command].help or "").split("Example", 1)[1].splitlines()[1:]

    assert not [line for line in examples if len(line) > 78]


@pytest.mark.parametrize("command", ["plan", "release", "verify"])
def test_help_flows(command: str) -> None:
    """Where a line of the source ends none of the terminal's has to, but examples keep theirs."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    *paragraphs, examples = (group.commands[command].help or "").split("\n\n")

    assert not [one for one in paragraphs if "\n" in one]
    assert examples.startswith("Examples:\n  vllmd-cli ")


def test_overview_lists_commands_and_exit_codes(run: Run) -> None:
    """Who types nothing reads what there is."""
    out = run().output

    assert all(command in out for command in [*COMMANDS, "completion"])
    assert "2 misuse, refused values included, 3 no daemon answers" in " ".join(out.split())


def test_readme_and_help_agree_on_the_exit_codes() -> None:
    """Whoever writes a script may read either."""
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text().split())
    codes = str(app.info.epilog).removesuffix(", 130 ended by Ctrl-C.")

    assert codes.startswith("Exit status: 0 done")
    assert codes in readme


def test_address_on_the_command_line_wins(daemon: FakeDaemon, run: Run) -> None:
    """--address comes before the environment, and a path is enough."""
    daemon.status = status()

    result = run("--address", daemon.target.removeprefix("unix:"), "status", VLLMD_ADDRESS="/nowhere.sock")

    assert result.exit_code == 0
