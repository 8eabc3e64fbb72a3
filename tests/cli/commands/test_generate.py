from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tests.cli.conftest import Run, Spawn
from tests.fakes.fake_daemon import FakeDaemon, Hang
from tests.fakes.samples import ready, tokens
from vllmd.v1 import engine_service_pb2 as pb


def request(daemon: FakeDaemon) -> Any:
    return MessageToDict(daemon.requests[-1], preserving_proto_field_name=True)


def test_streams_to_stdout_and_sums_up_on_stderr(daemon: FakeDaemon, run: Run) -> None:
    """stdout has the text and nothing else."""
    daemon.generate = list(tokens())

    result = run("generate", "e", "hi")

    assert result.stdout == "Once upon a time"
    assert result.stderr == "4 tokens (7 in the prompt) · first 85ms · total 385ms · 10.0 tok/s · length\n"
    assert run("generate", "e", "hi", "--quiet").stderr == ""


def test_sampling_options_reach_the_daemon(daemon: FakeDaemon, run: Run) -> None:
    """What is given is sent, zero included; what is not given is not."""
    run("generate", "e", "hi", "--max-tokens", "8", "--temperature", "0", "--stop", "a", "--stop", "b", "--ignore-eos")

    assert request(daemon) == {
        "engine": "engines/e",
        "text": "hi",
        "sampling_params": {"max_tokens": 8, "temperature": 0.0, "stop": ["a", "b"], "ignore_eos": True},
    }


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_prompt_from_stdin(daemon: FakeDaemon, run: Run, arguments: list[str]) -> None:
    """A prompt is read from stdin without the line end that `echo` adds."""
    run("generate", "e", *arguments, stdin="two\nlines\n")

    assert request(daemon)["text"] == "two\nlines"


def test_prompt_that_is_no_text_is_misuse(run: Run) -> None:
    """Bytes that are not UTF-8 are refused before anything is sent."""
    assert run("generate", "e", stdin=b"\xff\xfe").exit_code == 2


@pytest.mark.parametrize(
    ("options", "chat"),
    [
        (["--chat"], {"messages": [{"role": "user", "content": "hi"}]}),
        (
            ["--system", "be brief"],
            {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]},
        ),
        (
            ["--template-arg", "enable_thinking=false"],
            {"messages": [{"role": "user", "content": "hi"}], "template_args": {"enable_thinking": False}},
        ),
    ],
)
def test_conversation(daemon: FakeDaemon, run: Run, options: list[str], chat: Any) -> None:
    """Each option of a conversation makes the prompt a user's message."""
    run("generate", "e", "hi", *options)

    assert request(daemon)["chat"] == chat


def test_bare_name_is_an_engine_or_else_a_lease(daemon: FakeDaemon, run: Run) -> None:
    """A name without prefix that no engine has is taken for a lease."""
    daemon.engines = [ready()]
    daemon.generate = list(tokens())

    assert run("generate", "5d41", "hi").stdout == "Once upon a time"
    assert request(daemon)["lease"] == "leases/5d41"


def test_unknown_engine_says_how_to_list_them(daemon: FakeDaemon, run: Run) -> None:
    """An unknown engine by its full name is not tried as a lease."""
    daemon.engines = [ready()]

    result = run("generate", "engines/nope", "hi")

    assert result.exit_code == 1
    assert "ENGINE_NOT_FOUND" in result.stderr
    assert "Try: vllmd-cli engines" in result.stderr


def test_json_is_one_response_a_line(daemon: FakeDaemon, run: Run) -> None:
    """Programs get every response as a line."""
    daemon.generate = list(tokens())

    lines = [json.loads(line) for line in run("generate", "e", "hi", "-q", "-o", "json").stdout.splitlines()]

    assert [line["text"] for line in lines] == ["Once", " upon a", " time"]
    assert lines[-1]["finish_reason"] == "FINISH_REASON_LENGTH"


def test_json_says_the_end_only_at_the_end(daemon: FakeDaemon, run: Run) -> None:
    """A token's line has its text, even an empty one, and no reason why nothing has ended; the last has every field."""
    daemon.generate = [pb.GenerateResponse(token_ids=[1]), *tokens()]

    lines = [json.loads(line) for line in run("generate", "e", "hi", "-o", "json").stdout.splitlines()]

    assert lines[:2] == [{"text": "", "token_ids": [1]}, {"text": "Once", "token_ids": [1]}]
    assert lines[-1]["stop_reason"] == ""
    assert lines[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 4, "cached_tokens": 0}


def test_log_probabilities_are_for_programs(daemon: FakeDaemon, run: Run) -> None:
    """People are told, on stderr."""
    daemon.generate = list(tokens())
    text = run("generate", "e", "hi", "-q", "--logprobs", "1")
    lines = run("generate", "e", "hi", "-q", "--logprobs", "1", "-o", "json")

    assert (text.stdout, text.stderr) == ("Once upon a time", "What --logprobs adds is shown by -o json only.\n")
    assert lines.stderr == ""


def test_ctrl_c_aborts_the_request(daemon: FakeDaemon, spawn: Spawn) -> None:
    """SIGINT keeps what has come, cancels in the daemon and exits with 130."""
    daemon.generate = [tokens()[0], Hang()]
    process = spawn("generate", "e", "hi")
    assert process.stdout is not None
    assert process.stdout.read(4) == "Once"

    process.send_signal(signal.SIGINT)

    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == ""
    assert daemon.cancelled.wait(5)


@pytest.mark.parametrize("option", ["--max-tokens", "--min-tokens", "--top-k", "--seed", "--stop-token-id"])
def test_a_number_that_can_not_be_sent_is_misuse(run: Run, option: str) -> None:
    """It is refused like any other option that is wrong, with the range."""
    result = run("generate", "qwen3-8b-3f2a", "hi", option, str(2**63))

    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr
