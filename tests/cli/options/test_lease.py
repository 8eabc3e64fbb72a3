from __future__ import annotations

import subprocess

import pytest
from typer.testing import Result

from tests.cli.conftest import Run, Spawn
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import stopped, tokens
from tests.fakes.terminal import at_terminal
from vllmd.v1 import engine_service_pb2 as pb

LEASE = "leases/5d41"


def test_release_takes_a_lease_that_no_command_line_shows(daemon: FakeDaemon, run: Run) -> None:
    """From stdin, or from the environment."""
    daemon.release = pb.ReleaseResponse(engine=stopped())
    results = [run("release", "-", stdin=f"{LEASE}\n"), run("release", VLLMD_LEASE=LEASE)]

    assert [result.exit_code for result in results] == [0, 0]
    assert [one for one in daemon.requests if isinstance(one, pb.ReleaseRequest)] == [
        pb.ReleaseRequest(lease=LEASE)
    ] * 2


@pytest.mark.parametrize("prompt", [["hi"], ["-"], []])
def test_generate_reads_the_lease_from_the_first_line(daemon: FakeDaemon, run: Run, prompt: list[str]) -> None:
    """The prompt is an argument, or all that comes after."""
    daemon.generate = list(tokens())
    result = run("generate", "-", *prompt, stdin=f"{LEASE}\nhi\n")

    assert result.exit_code == 0
    assert (daemon.requests[0].lease, daemon.requests[0].text) == (LEASE, "hi")


def test_generate_takes_the_lease_from_the_environment(daemon: FakeDaemon, run: Run) -> None:
    """Then stdin is the prompt alone; a name on the command line counts more."""
    daemon.generate = list(tokens())
    run("generate", stdin="hi\n", VLLMD_LEASE=LEASE)
    run("generate", "e", "hi", VLLMD_LEASE=LEASE)

    assert (daemon.requests[0].lease, daemon.requests[0].text) == (LEASE, "hi")
    assert (daemon.requests[1].lease, daemon.requests[1].engine) == ("", "engines/e")


@pytest.mark.parametrize("arguments", [["release", "-"], ["generate", "-", "hi"], ["release"]])
def test_no_lease_at_all_is_misuse(daemon: FakeDaemon, run: Run, arguments: list[str]) -> None:
    """Nothing is asked of the daemon."""
    assert run(*arguments, stdin="\n").exit_code == 2
    assert daemon.requests == []


@pytest.mark.parametrize("command", ["release", "generate"])
def test_the_help_says_what_a_command_line_exposes(run: Run, command: str) -> None:
    """And what to do instead."""
    text = " ".join(run(command, "--help").stdout.replace("│", " ").split())

    assert "command lines can be read by every user of this host" in text
    assert "VLLMD_LEASE" in text


def said(result: Result) -> str:
    """What stderr says, less the frame around it."""
    return " ".join(result.stderr.replace("│", " ").split())


def test_what_can_be_no_name_is_the_prompt(daemon: FakeDaemon, run: Run) -> None:
    """With a lease in the environment."""
    daemon.generate = list(tokens())
    run("generate", "Once upon a time", VLLMD_LEASE=LEASE)
    run("tokenize", "Once upon a time", VLLMD_LEASE=LEASE)
    run("embed", "a cat", "a dog", VLLMD_LEASE=LEASE)

    generate, tokenize, embed = daemon.requests
    assert (generate.lease, generate.text) == (LEASE, "Once upon a time")
    assert (tokenize.lease, tokenize.prompt.text) == (LEASE, "Once upon a time")
    assert (embed.lease, [one.text for one in embed.inputs]) == (LEASE, ["a cat", "a dog"])


@pytest.mark.parametrize("command", ["generate", "tokenize", "embed"])
def test_a_prompt_without_an_engine_or_a_lease(daemon: FakeDaemon, run: Run, command: str) -> None:
    """It is said what it was taken for, and what is missing; nothing is asked of the daemon."""
    result = run(command, "Once upon a time", stdin="")

    assert result.exit_code == 2
    assert "'Once upon a time' was taken for ENGINE_OR_LEASE, and VLLMD_LEASE is not set" in said(result)
    assert f"vllmd-cli {command} ENGINE 'Once upon a time'" in said(result)
    assert daemon.requests == []


def test_a_prompt_without_a_lease_is_refused_before_stdin_ends(spawn: Spawn) -> None:
    """Whoever runs it with an open pipe is told at once."""
    process = spawn("generate", "Once upon a time", stdin=subprocess.PIPE)

    assert process.wait(20) == 2


@pytest.mark.parametrize("lease", [LEASE, ""])
@pytest.mark.parametrize("command", ["generate", "tokenize", "embed"])
def test_a_prompt_of_one_word(daemon: FakeDaemon, run: Run, command: str, lease: str) -> None:
    """It may be a name, so it is no prompt; where nothing is piped, it is said how to make it one."""
    result = run(command, "Hello", stdin="", VLLMD_LEASE=lease)

    assert result.exit_code == 2
    assert "'Hello' was taken for ENGINE_OR_LEASE" in said(result)
    assert f"vllmd-cli {command} ENGINE Hello echo Hello | vllmd-cli {command}" in said(result)
    assert daemon.requests == []


def test_a_prompt_of_one_word_at_a_terminal() -> None:
    """It is told before anything is read."""
    with at_terminal("generate", "Hello") as terminal:
        status, text = terminal.end()

    assert status == 2
    assert "'Hello' was taken for" in text


@pytest.mark.parametrize("source", ["leases/5d41", "5d41402abc4b2a76b9719d911017c592"])
def test_a_lease_is_not_shown_where_the_prompt_is_missing(run: Run, source: str) -> None:
    """Whoever reads it could use it."""
    for result in (run("generate", source, stdin=""), run("generate", stdin="", VLLMD_LEASE=source)):
        assert result.exit_code == 2
        assert "give a prompt, or pipe one" in said(result)
        assert source not in result.stderr


@pytest.mark.parametrize("command", ["generate", "tokenize", "embed"])
def test_what_the_variable_holds_is_never_the_prompt(daemon: FakeDaemon, run: Run, command: str) -> None:
    """Whatever it is: it may be a lease with a blank too many, and nobody's text."""
    run(command, stdin="hi", VLLMD_LEASE="5d41 ")

    assert "5d41" not in str([getattr(one, "text", "") or getattr(one, "prompt", "") for one in daemon.requests])
    assert daemon.requests != []


def test_a_slip_in_a_name_before_texts_is_no_text(daemon: FakeDaemon, run: Run) -> None:
    """Only what has spaces is: the daemon says what the rest is."""
    run("embed", "BAAI/bge-small", "a cat", VLLMD_LEASE=LEASE)

    assert [one.text for one in daemon.requests[0].inputs] == ["a cat"]


@pytest.mark.parametrize("command", ["release", "generate", "tokenize", "embed", "chat"])
def test_a_missing_lease_says_where_else_it_is_read_from(run: Run, command: str) -> None:
    """The argument is named, and the variable."""
    result = run(command, stdin="hi")

    assert result.exit_code == 2
    assert "Name one, or put a lease in VLLMD_LEASE" in said(result)
