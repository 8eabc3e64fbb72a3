from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.chat.test_session import messages
from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import loaded, ready, stopped, tokens
from tests.fakes.terminal import CTRL_C, CTRL_D, at_terminal
from tests.host.running import home, until
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import Engine
from vllmd.v1.host_service_pb2 import StopEngineRequest


@pytest.fixture
def scripted(daemon: FakeDaemon) -> FakeDaemon:
    daemon.engines = [ready()]
    daemon.generate = list(tokens())
    return daemon


def test_stdin_is_one_message(scripted: FakeDaemon, run: Run) -> None:
    """Where there is no terminal, the answer to all of stdin is all that stdout has."""
    result = run("chat", "qwen3-8b-3f2a", "--system", "Be brief.", stdin='two\n"""lines\n')

    assert result.exit_code == 0
    assert (result.stdout, result.stderr) == ("Once upon a time", "")
    assert messages(scripted) == [("system", "Be brief."), ("user", 'two\n"""lines')]


def test_figures_and_json(scripted: FakeDaemon, run: Run) -> None:
    """Programs get each response as a line; figures are on stderr."""
    result = run("chat", "qwen3-8b-3f2a", "-v", "-o", "json", stdin="hi")

    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["Once", " upon a", " time"]
    assert "10.0 tok/s" in result.stderr


@pytest.mark.parametrize("stdin", ["", " \n"])
def test_nothing_to_say_is_misuse(scripted: FakeDaemon, run: Run, stdin: str) -> None:
    """It is told before anything is loaded."""
    result = run("chat", "some/model", stdin=stdin)

    assert result.exit_code == 2
    assert scripted.requests == []


def test_options_go_with_each_request(scripted: FakeDaemon, run: Run) -> None:
    """Sampling, variables of the template, an adapter and a priority."""
    options = ["--temperature", "0", "--template-arg", "enable_thinking=false", "--lora", "sql", "--priority", "-1"]

    run("chat", "qwen3-8b-3f2a", *options, stdin="hi")

    sent = scripted.requests[-1]
    assert isinstance(sent, pb.GenerateRequest)
    assert (sent.sampling_params.temperature, sent.lora, sent.priority) == (0.0, "sql", -1)
    assert sent.chat.template_args["enable_thinking"] is False


def test_a_model_is_loaded_with_its_adapter_and_released(scripted: FakeDaemon, run: Run) -> None:
    """The adapter is used by the name that it was loaded under."""
    scripted.load = [loaded()]
    scripted.release = pb.ReleaseResponse(engine=stopped())

    result = run("chat", "Qwen/Qwen3-8B", "--lora", "sql=/adapters/sql", "--set", "seed=1", stdin="hi")

    load, generate, release = scripted.requests
    assert result.exit_code == 0
    assert (load.hold, load.lora_adapters[0].path, load.engine_args["seed"]) == (True, "/adapters/sql", 1)
    assert (generate.lease, generate.lora) == (release.lease, "sql")
    assert "Released: qwen3-8b-3f2a is STOPPED." in result.stderr


def test_json_is_for_programs(scripted: FakeDaemon) -> None:
    """At a terminal it is refused, with what to do."""
    with at_terminal("chat", "qwen3-8b-3f2a", "-o", "json", VLLMD_ADDRESS=scripted.target) as terminal:
        status, text = terminal.end()

    assert status == 2
    assert "by stdin" in text


def test_a_chat_with_a_real_daemon(tmp_path: Path) -> None:
    """It loads the model, Ctrl-C aborts in the engine and keeps what came, and Ctrl-D leaves nothing behind."""
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    with home("--backend", "fake") as place:
        daemon = place.start()
        environment["VLLMD_ADDRESS"] = str(daemon.socket)
        with at_terminal("chat", "my/model", "--max-tokens", "1000000", **environment) as terminal:
            terminal.until("my/model on ")
            terminal.until(">>> ")
            terminal.type("hello")
            terminal.until("w5 ")
            (engine,) = daemon.status().engines
            assert engine.running_count == 1
            terminal.press(CTRL_C)
            terminal.until("[stopped]\n>>> ")
            until(lambda: daemon.engine(engine.name).running_count == 0, "the request's end")
            terminal.type("/set max_tokens 2")
            terminal.until(">>> ")
            terminal.type("again")
            assert "w0 w1 \n" in terminal.until(">>> ")
            terminal.press(CTRL_D)
            status, text = terminal.end()

        assert status == 0
        assert "is STOPPED." in text
        assert daemon.engine(engine.name).state == Engine.STATE_STOPPED


def test_a_chat_outlasts_its_engine(tmp_path: Path) -> None:
    """Whoever stops it: the model can be loaded again, and the conversation stays."""
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    with home("--backend", "fake") as place:
        daemon = place.start()
        environment["VLLMD_ADDRESS"] = str(daemon.socket)
        with at_terminal("chat", "my/model", "--max-tokens", "3", **environment) as terminal:
            terminal.until(">>> ")
            terminal.type("hello")
            terminal.until("w2 \n>>> ")
            (engine,) = daemon.status().engines
            daemon.host.StopEngine(StopEngineRequest(name=engine.name))
            terminal.type("again")
            told = terminal.until(">>> ")
            terminal.type("/reload")
            terminal.until("my/model on ")
            terminal.until(">>> ")
            terminal.type("/regenerate")
            terminal.until("w2 \n>>> ")
            terminal.type("/show")
            shown = terminal.until(">>> ")
            terminal.press(CTRL_D)
            status, _ = terminal.end()

    assert "/reload loads the model again, then /regenerate asks once more" in told
    assert shown.count("w0 w1 w2") == 2
    assert status == 0
