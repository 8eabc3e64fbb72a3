from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import ready, tokens
from tests.fakes.terminal import UP, Terminal, at_terminal


@pytest.fixture
def environment(daemon: FakeDaemon, tmp_path: Path) -> dict[str, str]:
    daemon.engines = [ready()]
    daemon.generate = list(tokens())
    return {"VLLMD_ADDRESS": daemon.target, "XDG_STATE_HOME": str(tmp_path / "state")}


def say(terminal: Terminal, line: str) -> None:
    terminal.until(">>> ")
    terminal.type(line)
    terminal.until("time\n")


def test_lines_can_be_edited_and_come_back_in_the_next_chat(environment: dict[str, str], tmp_path: Path) -> None:
    """Control characters edit; the arrow brings back what was typed in an earlier chat."""
    with at_terminal("chat", "qwen3-8b-3f2a", **environment) as terminal:
        say(terminal, "world\x01hello \x05!")
    with at_terminal("chat", "qwen3-8b-3f2a", **environment) as terminal:
        terminal.until(">>> ")
        terminal.press(UP)
        terminal.until("hello world!")

    path = tmp_path / "state" / "vllmd" / "chat_history"
    assert path.read_text() == "hello world!\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("off", ["--no-history", "VLLMD_CHAT_HISTORY"])
def test_history_can_be_switched_off(environment: dict[str, str], tmp_path: Path, off: str) -> None:
    """By an option or the environment; within the chat lines come back all the same."""
    options = [off] if off.startswith("-") else []
    switched = environment if options else environment | {off: "0"}
    with at_terminal("chat", "qwen3-8b-3f2a", *options, **switched) as terminal:
        say(terminal, "hello")
        terminal.until(">>> ")
        terminal.press(UP)
        terminal.until("hello")

    assert not (tmp_path / "state").exists()


def test_commands_are_completed(environment: dict[str, str]) -> None:
    """By the tabulator."""
    with at_terminal("chat", "qwen3-8b-3f2a", **environment) as terminal:
        terminal.until(">>> ")
        terminal.press("/reg\t")
        terminal.until("/regenerate")


def test_a_history_that_can_not_be_written_is_told_once(environment: dict[str, str], tmp_path: Path) -> None:
    """The chat goes on without."""
    (tmp_path / "state").mkdir()
    os.symlink("/nowhere/at/all", tmp_path / "state" / "vllmd")
    with at_terminal("chat", "qwen3-8b-3f2a", **environment) as terminal:
        say(terminal, "hello")
        say(terminal, "again")
        text = terminal.text

    assert text.count("--no-history does without") == 1
