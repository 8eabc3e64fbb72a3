from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import loaded
from vllmd.cli.options.model import absolute


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a home."""
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"), [("./m", "a/b/m"), ("../m", "a/m"), ("~/m", "m"), (".", "a/b"), ("..", "a"), ("./m/", "a/b/m")]
)
def test_a_path_of_here_is_made_absolute(here: Path, typed: str, meant: str) -> None:
    """The daemon has another working directory."""
    assert absolute(typed) == str(here / meant)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "gpt2", "/models/m", ".hidden/m", "~other/m"])
def test_all_else_stays_as_it_is(name: str) -> None:
    """It may be an id of the hub."""
    assert absolute(name) == name


@pytest.mark.parametrize("command", ["load", "plan", "chat"])
def test_each_command_that_takes_a_model(daemon: FakeDaemon, run: Run, here: Path, command: str) -> None:
    """What one of them takes the others take as well, and adapters likewise."""
    daemon.load = [loaded()]

    run(command, "./m", "--lora", "sql=./sql", stdin="hi")

    request = next(one for one in daemon.requests if hasattr(one, "lora_adapters"))
    assert request.model == str(here / "a/b/m")
    assert request.lora_adapters[0].path == str(here / "a/b/sql")


@pytest.mark.parametrize("command", ["load", "plan", "chat"])
def test_the_help_says_so(run: Run, command: str) -> None:
    """In the words of the argument, or by what `load` takes."""
    text = " ".join(run(command, "--help").stdout.replace("│", " ").split())

    assert "begins with `./`" in text or "as `load` takes it" in text
