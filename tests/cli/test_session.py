from __future__ import annotations

import grpc

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, Refusal


def test_output_is_text_or_json(run: Run) -> None:
    """Another form is misuse."""
    assert run("status", "-o", "yaml").exit_code == 2


def test_daemon_that_hangs_counts_as_unreachable(daemon: FakeDaemon, run: Run) -> None:
    """A daemon that does not answer in time is as good as none."""
    daemon.stop = Refusal("DEADLINE_EXCEEDED", "too late", grpc.StatusCode.DEADLINE_EXCEEDED)

    assert run("stop", "e").exit_code == 3
