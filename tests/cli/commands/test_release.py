from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, not_found, upgrading
from tests.fakes.samples import ready, stopped
from vllmd.v1 import engine_service_pb2 as pb


def test_last_lease_shows_the_proof(daemon: FakeDaemon, run: Run) -> None:
    """When the engine stops with its last lease, what it gave back is shown."""
    daemon.release = pb.ReleaseResponse(engine=stopped())

    result = run("release", "5d41")

    assert result.exit_code == 0
    assert daemon.requests[0] == pb.ReleaseRequest(lease="leases/5d41")
    assert "qwen3-8b-3f2a is stopped." in result.stdout


def test_engine_with_other_leases_stays(daemon: FakeDaemon, run: Run) -> None:
    """When others use the engine, that is said."""
    daemon.release = pb.ReleaseResponse(engine=ready())

    result = run("release", "leases/5d41")

    assert result.exit_code == 0
    assert result.stdout == "Released. qwen3-8b-3f2a stays READY with 2 other leases.\n"


def test_missing_proof_is_a_failure(daemon: FakeDaemon, run: Run) -> None:
    """An engine that is not proven to be gone makes the command fail."""
    daemon.release = pb.ReleaseResponse(engine=stopped(verified=False))

    assert run("release", "5d41").exit_code == 1


def test_unknown_lease(daemon: FakeDaemon, run: Run) -> None:
    """A lease that has ended is explained."""
    daemon.release = not_found("lease", "leases/5d41")

    result = run("release", "5d41")

    assert result.exit_code == 1
    assert "a lease ends when it is not used for its time" in result.stderr


@pytest.mark.parametrize("name", ["qwen3-8b-3f2a", "engines/qwen3-8b-3f2a"])
def test_an_engine_is_no_lease(daemon: FakeDaemon, run: Run, name: str) -> None:
    """What ends one is said."""
    daemon.engines = [ready()]
    daemon.release = not_found("lease", "leases/qwen3-8b-3f2a")

    result = run("release", name)

    assert result.exit_code == 1
    assert result.stderr.endswith(
        "qwen3-8b-3f2a is an engine. To stop it whatever leases it has: vllmd-cli stop qwen3-8b-3f2a\n"
    )


def test_upgrade_meanwhile_is_no_failure(daemon: FakeDaemon, run: Run) -> None:
    """The lease has ended, and where to read what that gave back is said."""
    daemon.refusals = [upgrading(engine="qwen3-8b-3f2a")]
    daemon.release = not_found("lease", "leases/5d41")

    result = run("release", "5d41")

    assert result.exit_code == 0
    assert result.stdout.startswith("Released. Another daemon came meanwhile")
    assert "vllmd-cli events" in result.stdout


def test_json(daemon: FakeDaemon, run: Run) -> None:
    """Programs get the engine as the proto has it."""
    daemon.release = pb.ReleaseResponse(engine=stopped())

    assert json.loads(run("release", "5d41", "-o", "json").stdout)["engine"]["reclaim"]["verified"] is True
