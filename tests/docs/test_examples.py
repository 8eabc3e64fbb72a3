"""Whatever the README and docs/ show works as it is written there, with fake engines on simulated GPUs."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.examples import ENDLESS, NOT_RUN, STATUS, Block, blocks, commands, script, why_not_run
from tests.docs.links import ROOT
from tests.host.running import RunningDaemon, home

BLOCKS = list(blocks())
RUN = [block for block in BLOCKS if block.language == "python" or script(block)]
OURS = [
    (str(block), command)
    for block in BLOCKS
    if block.language == "sh"
    for line in block.lines()
    for command in commands(line)
]
MODELS = {"Qwen/Qwen3-8B": "qwen3-8b", "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b"}
"""What is in the hub's cache, and whose configuration it has."""
LLM = """
class LLM:
    def __init__(self, model, **engine_args):
        assert model and engine_args
"""


@pytest.fixture
def daemon() -> Iterator[RunningDaemon]:
    """One with two simulated GPUs, as the README starts it."""
    with home("--simulate", "2xRTX3090") as place:
        yield place.start()


def environment(daemon: RunningDaemon, directory: Path) -> dict[str, str]:
    """Where the examples find the daemon, the programs, a model in the hub's cache, and something called vLLM."""
    for name, folder in MODELS.items():
        snapshot = directory / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / "c0ffee"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_bytes(
            (ROOT / "tests" / "data" / "models" / folder / "config.json").read_bytes()
        )
        references = snapshot.parent.parent / "refs"
        references.mkdir()
        (references / "main").write_text("c0ffee")
    (directory / "vllm.py").write_text(LLM)
    return os.environ | {
        "HF_HUB_CACHE": str(directory / "hub"),
        "HF_HUB_OFFLINE": "1",
        "HOME": str(directory),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{directory}:{ROOT}",
        "VLLMD_ADDRESS": f"unix:{daemon.socket}",
    }


def filled(text: str, daemon: RunningDaemon, directory: Path) -> str:
    """Put names of this host in the place of those that stand for whatever a reader's has."""
    if "ENGINE" in text or "leases/…" in text:
        loaded = daemon.load("Qwen/Qwen3-0.6B", max_model_len=8192)
        text = text.replace("leases/…", loaded.lease.name).replace("ENGINE", loaded.engine.name)
    (directory / "new.toml").write_text("idle_timeout = 1\n")
    return text.replace("/tmp/new.toml", str(directory / "new.toml")).replace(
        "unix:/run/vllmd/vllmd.sock", f"unix:{daemon.users_socket}"
    )


@functools.cache
def helped(program: str, *names: str) -> str:
    """Show the help of a command."""
    return subprocess.run(
        [Path(sys.executable).with_name(program), *names, "--help"],
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


@pytest.mark.parametrize("block", RUN, ids=str)
def test_it_runs(block: Block, daemon: RunningDaemon, tmp_path: Path) -> None:
    """Each line ends with the status that it is to end with; a program without an error."""
    directory = tmp_path / "here"
    directory.mkdir()
    (directory / "tests").symlink_to(ROOT / "tests")
    text = filled(script(block) if block.language == "sh" else block.text, daemon, tmp_path)
    command = ["bash", "-c", text] if block.language == "sh" else [sys.executable, "-c", text]
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment(daemon, tmp_path),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


def test_type_checkers_accept_it(tmp_path: Path) -> None:
    """Each program that imports the client or the API, under `mypy --strict` as who installed vllmd would run it."""
    typed = [block for block in BLOCKS if block.language == "python" and re.search(r"vllmd\.(client|v1)", block.text)]
    names = {re.sub(r"\W", "_", str(block)): block for block in typed}
    for name, block in names.items():
        (tmp_path / f"{name}.py").write_text(block.text)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=.cache", "--no-error-summary"]
    done = subprocess.run(
        [*mypy, *(f"{name}.py" for name in names)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert len(typed) > 10


@pytest.mark.parametrize(
    ("where", "command"), OURS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_there_is_such_a_command(where: str, command: list[str]) -> None:
    """With each of its flags, whether it is run or not; targets of make are in the Makefile."""
    program, *words = command
    if program == "make":
        assert f"\n{words[0]}: " in (ROOT / "Makefile").read_text()
        return
    names = [word for word in words if word.isalpha() and word.islower()][
        : 2 if words[:1] in (["config"], ["token"]) else 1
    ]
    shown = helped(program, *(names if words[:1] == names[:1] else []))

    assert [
        word for word in words if word.startswith("-") and len(word) > 1 and word.partition("=")[0] not in shown
    ] == []


def test_no_exception_is_left_that_nothing_needs() -> None:
    """What has gone from the pages goes from the lists."""
    lines = [line for block in BLOCKS if block.language == "sh" for line in block.lines()]

    for start in (*NOT_RUN, *ENDLESS, *STATUS):
        assert any(line.startswith(start) for line in lines), start
    assert sum(why_not_run(line) is None for line in lines) > 20
