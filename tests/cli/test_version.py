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


def test_without_a_daemon(daemon: FakeDaemon, run: Run) -> None:
    """That no daemon answers is an answer."""
    daemon.close()

    result = run("version", "-o", "json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"client": vllmd.__version__, "daemon": None, "address": daemon.target}
