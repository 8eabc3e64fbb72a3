from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.cli.conftest import Run, Spawn
from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal
from tests.fakes.samples import status, tokens
from vllmd.cli.failures import as_sentence, how_to_look, how_to_start


def test_no_daemon_says_what_to_do(daemon: FakeDaemon, run: Run) -> None:
    """Without a daemon, stderr names the socket that was tried and how to start one."""
    daemon.close()

    result = run("status")

    assert result.exit_code == 3
    assert result.stdout == ""
    assert daemon.target in result.stderr
    assert "Start one in another terminal:   vllmd\n" in result.stderr
    assert "--address" in result.stderr


def test_start_as_a_service_where_the_unit_is_installed() -> None:
    """systemctl is mentioned only where it would work."""
    assert not any("systemctl" in line for line in how_to_start(is_root=True, unit_installed=False))
    assert how_to_start(is_root=True, unit_installed=True)[1].endswith(" systemctl start vllmd")
    assert how_to_start(is_root=False, unit_installed=True)[1].endswith(" sudo systemctl start vllmd")


def test_a_daemon_that_goes_away_is_looked_for(daemon: FakeDaemon, spawn: Spawn) -> None:
    """Whoever had one is not told how to start the first, but where to read why."""
    daemon.generate = [Hang()]
    process = spawn("generate", "e", "hi")
    assert daemon.arrived.acquire(timeout=20)
    daemon.close()
    _, err = process.communicate(timeout=30)

    assert process.returncode == 3
    assert "The daemon went away" in err
    assert "See if it is back:   " in err
    assert "Start one" not in err


def test_what_to_look_at_where_the_unit_is_installed() -> None:
    """systemctl is mentioned only where it would work."""
    assert "systemctl" not in "".join(how_to_look(unit_installed=False))
    assert "systemctl status vllmd" in "".join(how_to_look(unit_installed=True))
    assert "journalctl -u vllmd" in "".join(how_to_look(unit_installed=True))


@pytest.mark.parametrize("option", ["--address", "--version"])
def test_a_global_option_behind_the_command(run: Run, option: str) -> None:
    """It is said where it stands; of one that there is nowhere, nothing is."""
    result = run("load", "x", option, "y")
    other = run("load", "x", "--adress", "y")

    assert result.exit_code == 2
    value = " ADDRESS" if option == "--address" else ""
    said = " ".join(result.stderr.replace("│", " ").split())
    assert f"No such option: {option}. It stands before the command: vllmd-cli {option}{value} load …" in said
    assert "stands before" not in other.stderr


def test_refusal_is_a_sentence_with_a_way_out(daemon: FakeDaemon, run: Run) -> None:
    """Message, reason, refused fields, when to try again and the next command, and no traceback."""
    daemon.load = [
        Refusal(
            "GPU_MEMORY_EXHAUSTED",
            "m needs 17.2 GiB and 9.4 GiB is free.",
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            retry_seconds=5,
            violations=[("model", "is large")],
        )
    ]

    result = run("load", "m")

    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Error: M needs 17.2 GiB and 9.4 GiB is free. (GPU_MEMORY_EXHAUSTED)",
        "  model: is large",
        "Try again in 5s.",
        "Try: vllmd-cli status   (shows who holds the memory)",
    ]


def test_failed_load_shows_the_end_of_the_log(daemon: FakeDaemon, run: Run) -> None:
    """The last lines of the log come with a failed load, and the command that shows more."""
    lines = [f"line {number}" for number in range(30)]
    daemon.load = [Refusal("ENGINE_DIED", "it died", metadata={"engine": "engines/e-1"}, log_lines=lines)]

    result = run("load", "m")

    assert "  │ line 29\n" in result.stderr
    assert "line 14" not in result.stderr
    assert result.stderr.endswith("Try: vllmd-cli logs e-1 -n 200\n")


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens must be at least 1.",
        "dtype='x' is none",
        "dtype = x is none",
        "n: one",
        "Qwen/Q is no model",
        "7 up",
    ],
)
def test_names_stay_as_they_are(message: str) -> None:
    """A message that begins with a name is not capitalised: there is no Max_tokens."""
    assert as_sentence(message) == message


def test_words_begin_with_a_capital_letter() -> None:
    """Everything else is a sentence."""
    assert as_sentence("it's gone, in short") == "It's gone, in short"
    assert as_sentence("died") == "Died"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["load", "m", "--set", "max_model_len=-1"], "INVALID_ENGINE_ARG"), (["generate", "e", "x", "--top-p", "7"], "X")],
)
def test_refused_value_is_misuse(daemon: FakeDaemon, run: Run, arguments: list[str], reason: str) -> None:
    """A value that only the daemon can refuse ends like one that the command line refuses."""
    daemon.load = daemon.generate = [Refusal(reason, "top_p must be at most 1", grpc.StatusCode.INVALID_ARGUMENT)]

    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stderr == f"Error: top_p must be at most 1 ({reason})\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["load"], ["load", "m", "--ttl", "x"], ["logs", "e", "-n", "-1"]])
def test_misuse(run: Run, arguments: list[str]) -> None:
    """What can't be a command line ends with status 2."""
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(("model", "code"), [("./nowhere", 1), ("no such/name", 2)])
def test_what_a_command_finds_out_by_itself(run: Run, model: str, code: int) -> None:
    """Is told like what a daemon refuses, and with the same exit codes."""
    result = run("plan", model, "--gpus", "1xH100")

    assert result.exit_code == code
    assert result.stderr.startswith("Error: ")


def test_exit_codes_of_the_process(daemon: FakeDaemon, spawn: Spawn) -> None:
    """The codes reach the shell."""
    daemon.stop = Refusal("INTERNAL", "no")

    assert spawn("status").wait(20) == 0
    assert spawn("stop", "e").wait(20) == 1
    assert spawn("stop").wait(20) == 2
    assert spawn("--address", "/nowhere.sock", "status").wait(20) == 3


def test_the_socket_that_was_tried_is_named(tmp_path: Path) -> None:
    """Without any hint it is where this user's daemon would be."""
    environ = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "vllmd.cli", "version"]

    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=20, check=True)

    assert f"unix:{tmp_path}/vllmd/vllmd.sock" in done.stdout.replace("\n", "")


@pytest.fixture
def redirected(daemon: FakeDaemon) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command line in a process of its own, as a shell redirects it."""
    daemon.status = status()
    daemon.generate = list(tokens())

    def redirected(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-c", f'exec "$0" -m vllmd.cli "$@" {redirection}', sys.executable, *arguments]
        environ = os.environ | {"VLLMD_ADDRESS": daemon.target}
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)

    return redirected


@pytest.mark.parametrize("arguments", [["status"], ["status", "-o", "json"], ["generate", "e", "hi"], ["--help"]])
def test_an_output_that_is_full(
    redirected: Callable[..., subprocess.CompletedProcess[str]], arguments: list[str]
) -> None:
    """It is said in a line, and is a failure: the result is lost."""
    done = redirected(">/dev/full", *arguments)

    assert (done.returncode, done.stderr) == (1, "Error: can't write the output: No space left on device.\n")


def test_stderr_that_is_full(redirected: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The result is there, and nothing can be said."""
    done = redirected("2>/dev/full", "generate", "e", "hi")

    assert (done.returncode, done.stdout) == (1, "Once upon a time")


@pytest.mark.parametrize(
    ("redirection", "arguments", "status", "out"),
    [
        (">&-", ["status"], 0, ""),
        ("<&-", ["generate", "e"], 2, ""),
        ("<&-", ["release", "-"], 2, ""),
        ("2>&-", ["generate", "e", "hi"], 0, "Once upon a time"),
        ("<&- >&- 2>&-", ["generate", "e", "hi"], 0, ""),
    ],
)
def test_streams_that_are_closed(
    redirected: Callable[..., subprocess.CompletedProcess[str]],
    redirection: str,
    arguments: list[str],
    status: int,
    out: str,
) -> None:
    """They are as /dev/null: what is done is done all the same."""
    done = redirected(redirection, *arguments)

    assert (done.returncode, done.stdout) == (status, out)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        (["generate", "e", "\udcff"], {}, "argument 3"),
        (["stop", "\udcff"], {}, "argument 2"),
        (["status"], {"VLLMD_TOKEN": "\udcff"}, "VLLMD_TOKEN"),
    ],
)
def test_bytes_that_are_no_text(
    daemon: FakeDaemon,
    spawn: Spawn,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    variables: dict[str, str],
    named: str,
) -> None:
    """They are misuse, wherever they stand, and nothing is asked of the daemon."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    process = spawn(*arguments)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 2
    assert said == f"Error: {named} is no UTF-8 text.\n"
    assert daemon.requests == []
