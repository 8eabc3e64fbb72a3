from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from google.protobuf.struct_pb2 import Value

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, Refusal
from tests.fakes.samples import GIB, GPU
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import EngineArg, GpuMemory, UseCase

LLAMA = str(Path(__file__).parents[3] / "tests/data/models/llama-3.1-8b")


@pytest.fixture(autouse=True)
def scripted(daemon: FakeDaemon) -> FakeDaemon:
    length = Value(number_value=8192)
    daemon.plan = pb.PlanModelResponse(
        effective_args=[
            EngineArg(name="max_model_len", value=length, source=EngineArg.SOURCE_CLIENT, reason="set by the client")
        ],
        gpus=[GPU],
        planned_memory=GpuMemory(total_bytes=80 * GIB, weights_bytes=16 * GIB, kv_cache_bytes=40 * GIB),
    )
    return daemon


def test_the_daemon_is_asked(daemon: FakeDaemon, run: Run) -> None:
    """With all that `load` would say, and its answer is shown with reasons and a bar, within 80 columns."""
    options = ["--set", "max_model_len=8192", "--use-case", "debate", "--lora", "a=/x", "--no-auto-config"]
    result = run("plan", "m", *options, COLUMNS="80")

    request = daemon.requests[0]
    assert (request.model, request.engine_args["max_model_len"], request.disable_auto_config) == ("m", 8192, True)
    assert (request.use_case, request.lora_adapters[0].path) == (UseCase.USE_CASE_DEBATE, "/x")
    assert result.exit_code == 0
    assert "weights 16.0 GiB" in result.stdout
    assert ["max_model_len", "8192", "client", "set", "by", "the", "client"] in [
        line.split() for line in result.stdout.splitlines()
    ]
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_what_is_there_already(daemon: FakeDaemon, run: Run) -> None:
    """An engine that would be shared, and those that stand in the way, with what to do."""
    daemon.plan = pb.PlanModelResponse(shared_engine="engines/a", blocking_engines=["engines/b"])

    out = run("plan", "m").stdout

    assert "a, which is loaded already" in out
    assert "would run on the CPU" in out
    assert "vllmd-cli stop b" in out


def test_json_is_the_answer(run: Run) -> None:
    """By the API's names."""
    found = json.loads(run("plan", "m", "-o", "json").stdout)

    assert found["gpus"] == [GPU]
    assert found["effective_args"][0]["source"] == "SOURCE_CLIENT"


def test_a_folder_is_named_as_the_daemon_sees_it(daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its working directory is another."""
    monkeypatch.chdir(Path(LLAMA).parent)
    run("plan", "./llama-3.1-8b")
    run("plan", "no/folder")

    planned = [one for one in daemon.requests if isinstance(one, pb.PlanModelRequest)]
    assert [one.model for one in planned] == [LLAMA, "no/folder"]


def test_what_does_not_fit(daemon: FakeDaemon, run: Run) -> None:
    """The daemon's error is the answer."""
    daemon.plan = Refusal("MODEL_TOO_LARGE", "it needs 200 GiB", grpc.StatusCode.FAILED_PRECONDITION)

    result = run("plan", "m")

    assert result.exit_code == 1
    assert "It needs 200 GiB (MODEL_TOO_LARGE)" in result.stderr


@pytest.mark.parametrize("options", [["--gpus", "2xRTX3090"], ["--gpus", "2xRTX3090", "--use-case", "production"]])
def test_other_gpus_are_planned_for_without_the_daemon(daemon: FakeDaemon, run: Run, options: list[str]) -> None:
    """It knows only its own."""
    result = run("plan", LLAMA, *options)

    assert result.exit_code == 0
    assert "RTX 3090" in result.stdout
    assert daemon.requests == []


def test_a_daemon_that_can_not_say(daemon: FakeDaemon, run: Run) -> None:
    """An older one: this host's GPUs are planned for as without a daemon, and adapters are refused."""
    daemon.plan = Refusal("UNIMPLEMENTED", "Method not found!", grpc.StatusCode.UNIMPLEMENTED)

    result = run("plan", "m", "--lora", "a=/x")

    assert result.exit_code == 2
    assert "only a daemon plans with adapters" in " ".join(result.stderr.replace("│", "").split())


def test_a_use_case_that_is_none(daemon: FakeDaemon, run: Run) -> None:
    """It is misuse with or without a daemon."""
    assert run("plan", "m", "--use-case", "fun").exit_code == 2
    assert daemon.requests == []
