from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import stopped, tokens
from vllmd.v1 import engine_service_pb2 as pb

LEASE = "leases/5d41"


def test_release_takes_a_lease_that_no_command_line_shows(daemon: FakeDaemon, run: Run) -> None:
    """From stdin, or from the environment."""
    daemon.release = pb.ReleaseResponse(engine=stopped())
    results = [run("release", "-", stdin=f"{LEASE}\n"), run("release", VLLMD_LEASE=LEASE)]

    assert [result.exit_code for result in results] == [0, 0]
    assert daemon.requests == [pb.ReleaseRequest(lease=LEASE)] * 2


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


@pytest.mark.parametrize(
    ("arguments", "lease", "source", "prompt"),
    [
        (["Once upon a time"], LEASE, LEASE, "Once upon a time"),
        (["Once upon a time"], "", "engines/Once upon a time", ""),
        (["qwen3-8b-3f2a"], LEASE, "engines/qwen3-8b-3f2a", ""),
    ],
)
def test_what_can_be_no_name_is_the_prompt(
    daemon: FakeDaemon, run: Run, arguments: list[str], lease: str, source: str, prompt: str
) -> None:
    """With a lease in the environment; without one, and for what may be a name, the prompt is on stdin."""
    run("generate", *arguments, stdin="", VLLMD_LEASE=lease)
    requests = [request for request in daemon.requests if hasattr(request, "sampling_params")]

    assert [(request.lease or request.engine, request.text) for request in requests] == [(source, prompt)]
