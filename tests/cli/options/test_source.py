from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, not_found
from tests.fakes.samples import ready, stopped
from vllmd.v1 import engine_service_pb2 as pb


def test_a_bare_name_is_asked_for_as_an_engine_and_then_as_a_lease(daemon: FakeDaemon, run: Run) -> None:
    """Where neither is there, the engine is what is said to be unknown, as people mostly mean those."""
    daemon.tokenize = not_found("engine", "engines/e")

    result = run("tokenize", "e", "hi")

    asked = [one for one in daemon.requests if isinstance(one, pb.TokenizeRequest)]
    assert [(one.engine, one.lease) for one in asked] == [("engines/e", ""), ("", "leases/e")]
    assert result.exit_code == 1
    assert "There is no engines/e (ENGINE_NOT_FOUND)" in result.stderr


@pytest.mark.parametrize("name", ["engines/e", "leases/e"])
def test_a_whole_name_is_asked_for_once(daemon: FakeDaemon, run: Run, name: str) -> None:
    """It says what it is."""
    daemon.tokenize = not_found("engine", "engines/e")

    assert run("tokenize", name, "hi").exit_code == 1
    assert len(daemon.requests) == 1


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "gpt2"])
def test_a_model_in_place_of_its_engine(daemon: FakeDaemon, run: Run, model: str) -> None:
    """Which engines have it is said; one that has ended has it no more."""
    daemon.engines = [ready(), stopped()]
    for engine in daemon.engines:
        engine.model = model
    daemon.engines[1].name = "engines/old"
    daemon.generate = [not_found("lease", f"leases/{model}")]

    result = run("generate", model, "hi")

    assert result.exit_code == 1
    assert result.stderr.endswith(f"(ENGINE_NOT_FOUND)\n{model} is loaded as qwen3-8b-3f2a: give that name.\n")


def test_a_model_alone_in_place_of_its_engine(daemon: FakeDaemon, run: Run) -> None:
    """Without a lease in the environment it is no prompt."""
    daemon.engines = [ready()]

    result = run("generate", "Qwen/Qwen3-8B", stdin="hi")

    assert "Qwen/Qwen3-8B is loaded as qwen3-8b-3f2a" in result.stderr


def test_a_lease_that_needs_not_be_typed(daemon: FakeDaemon, run: Run) -> None:
    """From the environment, where what can be no name is the prompt, and from stdin."""
    daemon.tokenize = pb.TokenizeResponse(token_ids=[1])

    run("tokenize", "two words", VLLMD_LEASE="leases/l")
    run("tokenize", "-", "two words", stdin="leases/l\n")

    assert [(one.lease, one.prompt.text) for one in daemon.requests] == [("leases/l", "two words")] * 2
