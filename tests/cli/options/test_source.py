from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, not_found
from vllmd.v1 import engine_service_pb2 as pb


def test_a_bare_name_is_asked_for_as_an_engine_and_then_as_a_lease(daemon: FakeDaemon, run: Run) -> None:
    """Where neither is there, the engine is what is said to be unknown, as people mostly mean those."""
    daemon.tokenize = not_found("engine", "engines/e")

    result = run("tokenize", "e", "hi")

    assert [(one.engine, one.lease) for one in daemon.requests] == [("engines/e", ""), ("", "leases/e")]
    assert result.exit_code == 1
    assert "There is no engines/e (ENGINE_NOT_FOUND)" in result.stderr


@pytest.mark.parametrize("name", ["engines/e", "leases/e"])
def test_a_whole_name_is_asked_for_once(daemon: FakeDaemon, run: Run, name: str) -> None:
    """It says what it is."""
    daemon.tokenize = not_found("engine", "engines/e")

    assert run("tokenize", name, "hi").exit_code == 1
    assert len(daemon.requests) == 1


def test_a_lease_that_needs_not_be_typed(daemon: FakeDaemon, run: Run) -> None:
    """From the environment, where what can be no name is the prompt, and from stdin."""
    daemon.tokenize = pb.TokenizeResponse(token_ids=[1])

    run("tokenize", "two words", VLLMD_LEASE="leases/l")
    run("tokenize", "-", "two words", stdin="leases/l\n")

    assert [(one.lease, one.prompt.text) for one in daemon.requests] == [("leases/l", "two words")] * 2
