from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal
from tests.fakes.samples import ready, tokens
from tests.fakes.terminal import CTRL_C, CTRL_D, Terminal, at_terminal
from vllmd.cli.chat.session import completions
from vllmd.v1 import engine_service_pb2 as pb


@pytest.fixture
def session(daemon: FakeDaemon, tmp_path: Path) -> AbstractContextManager[Terminal]:
    """A chat with an engine that is there, at a terminal, as far as its first prompt."""
    daemon.engines = [ready()]
    daemon.generate = list(tokens())

    @contextlib.contextmanager
    def opened() -> Iterator[Terminal]:
        environment = {"VLLMD_ADDRESS": daemon.target, "XDG_STATE_HOME": str(tmp_path / "state")}
        with at_terminal("chat", "qwen3-8b-3f2a", **environment) as terminal:
            assert "Qwen/Qwen3-8B on qwen3-8b-3f2a" in terminal.until(">>> ")
            yield terminal

    return opened()


def messages(daemon: FakeDaemon) -> list[tuple[str, str]]:
    """The conversation that was sent last."""
    sent = next(one for one in reversed(daemon.requests) if isinstance(one, pb.GenerateRequest))
    return [(message.role, message.content) for message in sent.chat.messages]


def refusal(reason: str = "ENGINE_RESTARTING") -> Refusal:
    return Refusal(reason, "the engine is starting again", grpc.StatusCode.UNAVAILABLE, retry_seconds=60)


def test_a_conversation_grows(daemon: FakeDaemon, session: AbstractContextManager[Terminal]) -> None:
    """Each question is sent with all that was said before it, and Ctrl-D ends."""
    with session as terminal:
        terminal.type("hello")
        assert "Once upon a time\n>>> " in terminal.until("time\n>>> ")
        terminal.type("and then?")
        terminal.until("time\n>>> ")
        terminal.press(CTRL_D)
        status, _ = terminal.end()

    assert status == 0
    assert messages(daemon) == [("user", "hello"), ("assistant", "Once upon a time"), ("user", "and then?")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['"""one', "two", 'three"""'], "one\ntwo\nthree"),
        (["one\\", "two"], "one\ntwo"),
        (['"""', "/help", '"""'], "/help"),
        (["\x1b[200~one\rtwo\x1b[201~"], "one\ntwo"),
    ],
)
def test_messages_of_several_lines(
    daemon: FakeDaemon, session: AbstractContextManager[Terminal], lines: list[str], message: str
) -> None:
    """Between quotes, after a backslash, or pasted: they are one message."""
    with session as terminal:
        for line in lines[:-1]:
            terminal.type(line)
            terminal.until("... ")
        terminal.type(lines[-1])
        terminal.until("time\n>>> ")

    assert messages(daemon) == [("user", message)]


def test_ctrl_c_stops_the_answer_and_not_the_program(
    daemon: FakeDaemon, session: AbstractContextManager[Terminal]
) -> None:
    """The request is aborted in the engine, and what came of the answer stays in the conversation, marked."""
    daemon.generate = [tokens()[0], Hang()]
    with session as terminal:
        terminal.type("hello")
        terminal.until("Once")
        terminal.press(CTRL_C)
        terminal.until("[stopped]\n>>> ")
        assert daemon.cancelled.wait(5)
        terminal.type("/show")
        shown = terminal.until(">>> ")
        daemon.generate = list(tokens())
        terminal.type("go on")
        terminal.until("time\n>>> ")

    assert "assistant:  [stopped]\nOnce" in shown
    assert messages(daemon) == [("user", "hello"), ("assistant", "Once"), ("user", "go on")]


def test_ctrl_c_on_a_line_with_text_only_clears_it(
    daemon: FakeDaemon, session: AbstractContextManager[Terminal]
) -> None:
    """However often; neither the line that was begun is sent, nor a message of several lines that was."""
    with session as terminal:
        terminal.type('"""begun')
        terminal.until("... ")
        terminal.interrupt_line("")
        terminal.until(">>> ")
        for text in ("one", "two", "three"):
            terminal.interrupt_line(text)
            assert "ends" not in terminal.until(">>> ")
        terminal.type("hello")
        terminal.until("time\n>>> ")

    assert messages(daemon) == [("user", "hello")]


def test_ctrl_c_twice_on_an_empty_line_ends(session: AbstractContextManager[Terminal]) -> None:
    """One after the other: a line with text between them begins anew."""
    with session as terminal:
        for text in ("", "x", ""):
            terminal.interrupt_line(text)
            told = terminal.until(">>> ")
            assert ("Once more, or Ctrl-D, ends." in told) is (not text)
        terminal.interrupt_line("")
        status, _ = terminal.end()

    assert status == 0


def test_what_the_model_writes_can_not_command_the_terminal(
    daemon: FakeDaemon, session: AbstractContextManager[Terminal]
) -> None:
    """Neither in one piece nor in several, and not when it is shown again."""
    daemon.generate = [pb.GenerateResponse(text=part) for part in ("a\x1b[2J", "b\x1b", "]0;t\x07c\n")]
    with session as terminal:
        terminal.type("hello")
        answer = terminal.until("c\n>>> ")
        terminal.type("/show")
        shown = terminal.until("c\n>>> ")

    assert "ab]0;tc\n" in answer
    assert "\x1b[2J" not in terminal.raw
    assert "\x1b" not in answer + shown


def test_a_failure_keeps_the_conversation(daemon: FakeDaemon, session: AbstractContextManager[Terminal]) -> None:
    """It is told with when to try again and how, and asking again sends the same question."""
    daemon.generate = [refusal()]
    with session as terminal:
        terminal.type("hello")
        told = terminal.until(">>> ")
        daemon.generate = list(tokens())
        terminal.type("/regenerate")
        terminal.until("time\n>>> ")
        terminal.type("/regenerate")
        terminal.until("time\n>>> ")

    assert "(ENGINE_RESTARTING)\nTry again in 1m.\nThe conversation is kept: /regenerate asks once more." in told
    assert messages(daemon) == [("user", "hello")]


def test_another_question_takes_the_place_of_one_without_an_answer(
    daemon: FakeDaemon, session: AbstractContextManager[Terminal]
) -> None:
    """Chat templates want the sides to alternate."""
    daemon.generate = [refusal()]
    with session as terminal:
        terminal.type("hello")
        terminal.until(">>> ")
        daemon.generate = list(tokens())
        terminal.type("good morning")
        terminal.until("time\n>>> ")

    assert messages(daemon) == [("user", "good morning")]


def test_the_engine_dies_in_the_middle(daemon: FakeDaemon, session: AbstractContextManager[Terminal]) -> None:
    """What came of the answer stays, and is told to."""
    daemon.generate = [tokens()[0], refusal("ENGINE_DIED")]
    with session as terminal:
        terminal.type("hello")
        told = terminal.until(">>> ")

    assert "Once\nError: " in told
    assert "What came of the answer stays" in told


def test_commands(daemon: FakeDaemon, session: AbstractContextManager[Terminal], tmp_path: Path) -> None:
    """The system message and parameters go with the next request, and all of it can be saved."""
    saved = tmp_path / "chat.json"
    with session as terminal:
        for line in ("/system Be brief.", "/set temperature 0", "/set verbose on"):
            terminal.type(line)
            terminal.until(">>> ")
        terminal.type("/nonsense")
        refused = terminal.until(">>> ")
        terminal.type("hello")
        answer = terminal.until(">>> ")
        terminal.type(f"/save {saved}")
        terminal.until("Saved")
        terminal.type("/exit")
        status, _ = terminal.end()

    assert status == 0
    assert "There is no command /nonsense: /help lists them. To send" in refused.replace("\n", " ")
    assert "10.0 tok/s" in answer
    assert messages(daemon) == [("system", "Be brief."), ("user", "hello")]
    assert MessageToDict(daemon.requests[-1])["samplingParams"] == {"temperature": 0.0}
    assert [one["role"] for one in json.loads(saved.read_text())["messages"]] == ["system", "user", "assistant"]


def test_nothing_to_load_again(session: AbstractContextManager[Terminal]) -> None:
    """A chat that has loaded no model says so."""
    with session as terminal:
        terminal.type("/reload")
        assert "loaded no model" in terminal.until(">>> ")


def test_what_tab_offers() -> None:
    """Commands, and parameters of `/set`."""
    found: dict[str, Any] = {line: completions(line) for line in ("/re", "/set top", "hello")}

    assert found == {
        "/re": ["/regenerate", "/reload"],
        "/set top": ["/set top_k ", "/set top_p "],
        "hello": [],
    }
