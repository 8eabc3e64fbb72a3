from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import status

COMMANDS = ["status", "load", "generate", "release", "stop", "engines", "logs", "version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_a_form_for_programs(run: Run, command: str) -> None:
    """Every command's help shows how it is typed, and every command can answer in JSON."""
    out = run(command, "--help").stdout

    assert "Example" in out
    assert f"vllmd-cli {command}" in out
    assert "--output" in out


def test_overview_lists_commands_and_exit_codes(run: Run) -> None:
    """Who types nothing reads what there is."""
    out = run().output

    assert all(command in out for command in COMMANDS)
    assert "3 daemon unreachable" in out


def test_address_on_the_command_line_wins(daemon: FakeDaemon, run: Run) -> None:
    """--address comes before the environment, and a path is enough."""
    daemon.status = status()

    result = run("--address", daemon.target.removeprefix("unix:"), "status", VLLMD_ADDRESS="/nowhere.sock")

    assert result.exit_code == 0
