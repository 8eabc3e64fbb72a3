from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.host_samples import gpu_processes, orphan, profile, suspect
from tests.fakes.samples import failed, ready, starting, stopped
from vllmd.v1.host_service_pb2 import ListProfilesResponse


def complete(run: Run, line: str) -> list[str]:
    """Ask as bash does."""
    words = line.split(" ")
    environ = {"_VLLMD_CLI_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return run(**environ).stdout.split()


def test_names_of_engines(daemon: FakeDaemon, run: Run) -> None:
    """Commands that take an engine offer the daemon's, with the prefix if it was begun."""
    daemon.engines = [ready(), failed()]

    assert complete(run, "vllmd-cli stop qw") == ["qwen3-8b-3f2a"]
    assert complete(run, "vllmd-cli stop engines/") == ["engines/qwen3-8b-3f2a"]
    assert complete(run, "vllmd-cli logs ") == ["qwen3-8b-3f2a", "mistral-7b-77aa"]
    assert complete(run, "vllmd-cli engines engines/m") == ["engines/mistral-7b-77aa"]


@pytest.mark.parametrize("command", ["stop", "generate", "embed", "tokenize", "chat"])
def test_names_of_engines_to_do_something_with(daemon: FakeDaemon, run: Run, command: str) -> None:
    """Wherever one is named first, those that live; one that starts can be stopped, and waits for requests."""
    daemon.engines = [starting(), ready(), failed(), stopped()]

    assert complete(run, f"vllmd-cli {command} ") == ["llama-3.1-8b-instruct-91bc", "qwen3-8b-3f2a"]


@pytest.mark.parametrize("command", ["logs", "engines", "watch"])
def test_names_of_engines_to_look_at(daemon: FakeDaemon, run: Run, command: str) -> None:
    """Those that have ended as well: that is when one looks."""
    daemon.engines = [ready(), failed()]

    assert complete(run, f"vllmd-cli {command} ") == ["qwen3-8b-3f2a", "mistral-7b-77aa"]


def test_whom_to_chat_with(daemon: FakeDaemon, run: Run) -> None:
    """Engines, and the models that were loaded once."""
    daemon.engines = [ready()]
    daemon.profiles = ListProfilesResponse(profiles=[profile("qwen/b"), profile("c/d")])

    assert complete(run, "vllmd-cli chat qw") == ["qwen3-8b-3f2a", "qwen/b"]


def test_options_of_requests(run: Run) -> None:
    """Those that several commands share as well."""
    assert complete(run, "vllmd-cli generate e --json-s") == ["--json-schema"]
    assert complete(run, "vllmd-cli chat e --temp") == ["--template-arg", "--temperature"]
    assert complete(run, "vllmd-cli load m --lo") == ["--lora"]


def test_processes_that_would_be_killed(daemon: FakeDaemon, run: Run) -> None:
    """Those of which a reclaim would do something."""
    daemon.gpu_processes = gpu_processes(orphan(), suspect())

    assert complete(run, "vllmd-cli reclaim --pid ") == ["3412991"]
    assert complete(run, "vllmd-cli reclaim --pid 9") == []


def test_models_that_loads_were_recorded_of(daemon: FakeDaemon, run: Run) -> None:
    """Each once."""
    daemon.profiles = ListProfilesResponse(profiles=[profile("a/b"), profile("c/d"), profile("a/b", dtype="float16")])

    assert complete(run, "vllmd-cli profiles ") == ["a/b", "c/d"]
    assert complete(run, "vllmd-cli profiles --forget c") == ["c/d"]


def test_what_a_plan_may_be_for(run: Run) -> None:
    """Use cases, and GPUs that one need not have."""
    assert complete(run, "vllmd-cli plan m --use-case pro") == ["production"]
    assert complete(run, "vllmd-cli plan m --gpus 2xRTX309") == ["2xRTX3090"]


def test_without_a_daemon_nothing(daemon: FakeDaemon, run: Run) -> None:
    """Without a daemon nothing is offered and nothing is said."""
    daemon.close()

    assert complete(run, "vllmd-cli stop ") == []
    assert complete(run, "vllmd-cli reclaim --pid ") == []
    assert complete(run, "vllmd-cli profiles ") == []


@pytest.mark.parametrize("line", ["vllmd-cli st", "vllmd-cli "])
def test_commands(run: Run, line: str) -> None:
    """Commands are offered."""
    assert {"status", "stop"} <= set(complete(run, line))


@pytest.mark.parametrize(
    ("shell", "words"), [("bash", "complete -o default"), ("zsh", "#compdef vllmd-cli"), ("fish", "complete --command")]
)
def test_script_of_the_shell_that_was_named(run: Run, shell: str, words: str) -> None:
    """The script is for the shell that is asked for, whichever this one is."""
    result = run("completion", shell)

    assert result.exit_code == 0
    assert words in result.stdout
    assert f"_VLLMD_CLI_COMPLETE=complete_{shell}" in result.stdout


def test_script_works_in_bash(tmp_path: Path, daemon: FakeDaemon) -> None:
    """What is printed, sourced as the help says, completes the name of an engine."""
    daemon.engines = [ready(), failed()]
    program = tmp_path / "vllmd-cli"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vllmd.cli "$@"\n')
    program.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VLLMD_ADDRESS": daemon.target}
    script = """
        source <(vllmd-cli completion bash)
        COMP_WORDS=(vllmd-cli stop qw) COMP_CWORD=2
        _vllmd_cli_completion vllmd-cli
        echo "${COMPREPLY[@]}"
    """

    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=30, check=False)

    assert (done.stdout, done.stderr) == ("qwen3-8b-3f2a\n", "")


def test_other_shell_is_misuse(run: Run) -> None:
    """A shell without a script is refused with those that have one, and typer's options that guess are not offered."""
    result = run("completion", "tcsh")

    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr
    assert "-completion" not in run("--help").stdout
    assert run("--show-completion", "zsh").exit_code == 2


def test_help_needs_no_grpc() -> None:
    """Help and completion of commands start without gRPC and protobuf, which take longer than all the rest."""
    code = "import sys, vllmd.cli.main; print({'grpc', 'google.protobuf'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)

    assert done.stdout == "set()\n"
