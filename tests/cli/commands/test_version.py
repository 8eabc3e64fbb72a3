from __future__ import annotations

import json

import vllmd
from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import status


def test_both_versions(daemon: FakeDaemon, run: Run) -> None:
    """The command's own version and the daemon's are shown."""
    daemon.status = status()

    assert run("version").stdout == f"vllmd-cli  {vllmd.__version__}\nvllmd      0.1.0 at {daemon.target}\n"


def test_option_is_the_first_line_of_the_command(daemon: FakeDaemon, run: Run) -> None:
    """`--version` answers without a daemon and before anything else, but not into a line that is being typed."""
    daemon.close()

    result = run("--version")

    assert (result.exit_code, result.stdout) == (0, f"vllmd-cli  {vllmd.__version__}\n")
    assert run("version").stdout.startswith(result.stdout)
    assert run("--version", "nonsense").exit_code == 0
    line = {"COMP_WORDS": "vllmd-cli --version st", "COMP_CWORD": "2", "_VLLMD_CLI_COMPLETE": "complete_bash"}
    assert run(**line).stdout.split() == ["status", "stop"]


def test_without_a_daemon(daemon: FakeDaemon, run: Run) -> None:
    """That no daemon answers is an answer."""
    daemon.close()

    result = run("version", "-o", "json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"client": vllmd.__version__, "daemon": None, "address": daemon.target}
