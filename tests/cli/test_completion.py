from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import failed, ready


def complete(run: Run, line: str) -> list[str]:
    """Ask as bash does."""
    words = line.split(" ")
    environ = {"_VLLMD_CLI_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return run(**environ).stdout.split()


def test_names_of_engines(daemon: FakeDaemon, run: Run) -> None:
    """Commands that take an engine offer the daemon's, with the prefix if it was begun."""
    daemon.engines = [ready(), failed()]

    assert complete(run, "vllmd-cli stop qw") == ["qwen3-8b-3f2a"]
    assert complete(run, "vllmd-cli logs ") == ["qwen3-8b-3f2a", "mistral-7b-77aa"]
    assert complete(run, "vllmd-cli engines engines/m") == ["engines/mistral-7b-77aa"]


def test_without_a_daemon_nothing(daemon: FakeDaemon, run: Run) -> None:
    """Without a daemon nothing is offered and nothing is said."""
    daemon.close()

    assert complete(run, "vllmd-cli stop ") == []


@pytest.mark.parametrize("line", ["vllmd-cli st", "vllmd-cli "])
def test_commands(run: Run, line: str) -> None:
    """Commands are offered."""
    assert {"status", "stop"} <= set(complete(run, line))


def test_help_needs_no_grpc() -> None:
    """Help and completion of commands start without gRPC and protobuf, which take longer than all the rest."""
    code = "import sys, vllmd.cli.main; print({'grpc', 'google.protobuf'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)

    assert done.stdout == "set()\n"
