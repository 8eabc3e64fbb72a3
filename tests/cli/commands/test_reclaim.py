from __future__ import annotations

import json

import grpc
import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, Refusal
from tests.fakes.host_samples import reclaim
from vllmd.v1.host_service_pb2 import ReclaimRequest


def test_a_dry_run_says_what_would_be_killed_and_how(daemon: FakeDaemon, run: Run) -> None:
    """Nothing is confirmed without --yes."""
    daemon.reclaim = reclaim(done=False)

    result = run("reclaim", "--pid", "3412991")

    assert result.exit_code == 0
    assert (
        "1 process with 40.0 GiB would be killed. To do it:\n  vllmd-cli reclaim --yes --pid 3412991" in result.stdout
    )
    assert daemon.requests[0] == ReclaimRequest(pid=3412991)


@pytest.mark.parametrize(("verified", "status"), [(True, 0), (False, 1)])
def test_the_exit_status_says_whether_it_is_proven(daemon: FakeDaemon, run: Run, verified: bool, status: int) -> None:
    """A script can rely on it; a person sees the report."""
    daemon.reclaim = reclaim(verified=verified)

    result = run("reclaim", "--yes")

    assert result.exit_code == status
    assert ("verified      yes" if verified else "verified      NO") in result.stdout
    assert "would be killed" not in result.stdout
    assert daemon.requests[0] == ReclaimRequest(confirmed=True)


def test_nothing_to_reclaim(daemon: FakeDaemon, run: Run) -> None:
    """That is well, too."""
    result = run("reclaim", "--yes")

    assert (result.exit_code, result.stdout) == (0, "There is nothing to reclaim.\n")


def test_a_process_that_is_no_orphan_is_refused(daemon: FakeDaemon, run: Run) -> None:
    """With the reason, and where more is to be seen."""
    daemon.reclaim = Refusal("NOT_AN_ORPHAN", "process 5 is SUSPECT", grpc.StatusCode.FAILED_PRECONDITION)

    result = run("reclaim", "--yes", "--pid", "5")

    assert result.exit_code == 1
    assert "Try: vllmd-cli ps" in result.stderr


def test_json(daemon: FakeDaemon, run: Run) -> None:
    """Programs get the message as it is."""
    daemon.reclaim = reclaim()

    assert json.loads(run("reclaim", "--yes", "-o", "json").stdout)["reports"][0]["verified"] is True


def test_zero_is_no_process(run: Run) -> None:
    """It would mean all of them."""
    assert run("reclaim", "--pid", "0").exit_code == 2
