from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, Refusal, not_found
from tests.fakes.samples import loaded, ready, stopped, tokens
from vllmd.cli.options.lease import is_lease
from vllmd.v1 import engine_service_pb2 as pb

LEASE = "5d41402abc4b2a76b9719d911017c592"


@pytest.fixture(autouse=True)
def scripted(daemon: FakeDaemon) -> FakeDaemon:
    daemon.engines = [ready()]
    daemon.generate = list(tokens())
    daemon.load = [loaded()]
    daemon.release = pb.ReleaseResponse(engine=stopped())
    return daemon


def kinds(daemon: FakeDaemon) -> list[str]:
    return [type(request).__name__ for request in daemon.requests]


@pytest.mark.parametrize("name", ["qwen3-8b-3f2a", "engines/qwen3-8b-3f2a"])
def test_an_engine_is_used_as_it_is(daemon: FakeDaemon, run: Run, name: str) -> None:
    """Nothing is loaded, and nothing released."""
    run("chat", name, stdin="hi")

    assert kinds(daemon) == ["GetEngineRequest", "GenerateRequest"]
    assert daemon.requests[-1].engine == "engines/qwen3-8b-3f2a"


@pytest.mark.parametrize("name", [LEASE, f"leases/{LEASE}"])
def test_a_lease_is_used_as_it_is(daemon: FakeDaemon, run: Run, name: str) -> None:
    """By its whole name or without the collection, also from the environment and from stdin."""
    run("chat", name, stdin="hi")
    run("chat", stdin="hi", VLLMD_LEASE=name)
    run("chat", "-", stdin=f"{name}\nhi")

    assert kinds(daemon) == ["GenerateRequest"] * 3
    assert {request.lease for request in daemon.requests} == {f"leases/{LEASE}"}
    assert {request.chat.messages[0].content for request in daemon.requests} == {"hi"}


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "/models/x", "gpt2", "no/folder"])
def test_all_else_is_a_model(daemon: FakeDaemon, run: Run, name: str) -> None:
    """A name without a slash as well, if no engine has it."""
    result = run("chat", name, stdin="hi")

    assert result.exit_code == 0
    assert kinds(daemon)[-3:] == ["LoadModelRequest", "GenerateRequest", "ReleaseRequest"]
    assert next(one for one in daemon.requests if isinstance(one, pb.LoadModelRequest)).model == name


def test_an_engine_by_its_full_name_must_be_there(daemon: FakeDaemon, run: Run) -> None:
    """It is not taken for a model."""
    result = run("chat", "engines/nope", stdin="hi")

    assert result.exit_code == 1
    assert kinds(daemon) == ["GetEngineRequest"]


@pytest.mark.parametrize("name", ["qwen3-8b-3f2b", "tiny-000", "tiny-12345"])
def test_a_mistyped_engine_is_not_loaded(daemon: FakeDaemon, run: Run, name: str) -> None:
    """A name such as the daemon makes up, or nearly so, is no model's; how to load one that is called so is said."""
    result = run("chat", name, stdin="hi")

    assert result.exit_code == 1
    assert kinds(daemon) == ["GetEngineRequest"]
    assert "Those there are: vllmd-cli engines\n" in result.stderr
    assert f"load it first: vllmd-cli load {name}\n" in result.stderr


def test_a_directory_may_be_called_as_an_engine(
    daemon: FakeDaemon, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is a model."""
    (tmp_path / "tiny-000f").mkdir()
    monkeypatch.chdir(tmp_path)

    run("chat", "tiny-000f", stdin="hi")

    assert "LoadModelRequest" in kinds(daemon)


def test_a_text_is_no_model(daemon: FakeDaemon, run: Run) -> None:
    """Nothing is asked of the daemon; a directory may have spaces."""
    refused = run("chat", "hello there", stdin="hi")
    run("chat", "/models/my model", stdin="hi")

    assert refused.exit_code == 2
    assert "it is a text." in refused.stderr
    assert [one.model for one in daemon.requests if isinstance(one, pb.LoadModelRequest)] == ["/models/my model"]


def test_what_is_loaded_can_not_be_set(run: Run) -> None:
    """Settings for the load of an engine that is there are misuse."""
    result = run("chat", "qwen3-8b-3f2a", "--set", "seed=1", stdin="hi")

    assert result.exit_code == 2
    assert "loaded already" in result.stderr


def test_a_model_is_released_when_it_fails(daemon: FakeDaemon, run: Run) -> None:
    """Whatever becomes of the answer."""
    daemon.generate = [Refusal("NO_CHAT_TEMPLATE", "the model has none", grpc.StatusCode.FAILED_PRECONDITION)]

    result = run("chat", "Qwen/Qwen3-8B", stdin="hi")

    assert result.exit_code == 1
    assert kinds(daemon)[-1] == "ReleaseRequest"
    assert "vllmd-cli generate ENGINE PROMPT   (without --chat)" in result.stderr


def test_a_lease_that_has_ended_is_no_failure(daemon: FakeDaemon, run: Run) -> None:
    """It was to end."""
    daemon.refusals = [not_found("lease", "leases/x")]

    assert run("chat", "Qwen/Qwen3-8B", stdin="hi").exit_code == 0


def test_an_end_that_is_not_proven_is_a_failure(daemon: FakeDaemon, run: Run) -> None:
    """As it is of `release`."""
    daemon.release = pb.ReleaseResponse(engine=stopped(verified=False))

    result = run("chat", "Qwen/Qwen3-8B", stdin="hi")

    assert result.exit_code == 1
    assert "NOT proven to be gone" in result.stderr


def test_what_looks_like_a_lease() -> None:
    """As the daemon makes them."""
    assert is_lease(LEASE)
    assert is_lease("leases/whatever")
    assert not is_lease("qwen3-8b-3f2a")
