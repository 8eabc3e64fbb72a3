from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Run, Spawn
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.samples import status
from vllmd.cli import terminal
from vllmd.v1.host_service_pb2 import TailLogsResponse


def test_printable_leaves_text_alone() -> None:
    """Escape sequences and control characters go; letters, tabs, line ends and other scripts stay."""
    assert terminal.printable("a\x1b[1;31mb\x1b[0m\x1b]0;title\x07c\td\n\x07\re\x9bü日") == "abc\td\neü日"


def test_printable_leaves_no_text_turned_round() -> None:
    """What shows a line in another order than it is in."""
    assert terminal.printable("rm \u202efdp.exe\u2066x") == "rm fdp.exex"


def test_json_has_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    """It is escaped, and so the same JSON; other scripts stay readable."""
    values = {"a": "\x1b[2J\x9b2J\x9d0;x\u202e日"}
    terminal.json_object(values)
    printed = capsys.readouterr().out

    assert json.loads(printed) == values
    assert "日" in printed
    assert not set(printed) & {"\x1b", "\x9b", "\x9d", "\u202e"}


def test_terminal_is_safe_from_a_log(daemon: FakeDaemon, spawn: Spawn) -> None:
    """On a terminal, what a log contains can't command it."""
    daemon.logs = [TailLogsResponse(lines=["\x1b[31mred\x1b[0m"])]
    ours, theirs = pty.openpty()

    assert spawn("logs", "e", stdout=theirs).wait(20) == 0

    assert os.read(ours, 1000) == b"red\r\n"
    os.close(ours)
    os.close(theirs)


def test_pipe_gets_the_log_as_it_is(daemon: FakeDaemon, run: Run) -> None:
    """A pipe gets every byte."""
    daemon.logs = [TailLogsResponse(lines=["\x1b[31mred\x1b[0m"])]

    assert run("logs", "e").stdout == "\x1b[31mred\x1b[0m\n"


def test_pipe_gets_no_colour_and_whole_lines(daemon: FakeDaemon, spawn: Spawn) -> None:
    """Tables in a pipe have neither escape sequences nor cut cells."""
    daemon.status = status()

    out, _ = spawn("status").communicate(timeout=20)

    assert "\x1b" not in out
    assert "meta-llama/Llama-3.1-8B-Instruct" in out


def test_lines_of_a_table_end_without_blanks(daemon: FakeDaemon, run: Run) -> None:
    """In a pipe; on a terminal nobody sees them."""
    daemon.status = status()

    assert not re.search(r"[ \t]+$", run("status").stdout, re.MULTILINE)


def test_reader_that_leaves_is_no_error(daemon: FakeDaemon, spawn: Spawn) -> None:
    """`| head` ends the command without a word, and the daemon's stream with it."""
    daemon.logs = [TailLogsResponse(lines=["x" * 1000] * 1000)] * 100
    process = spawn("logs", "e")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(20) == 141
    assert process.stderr.read() == ""
    assert daemon.cancelled.wait(5)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_on_a_terminal_unless_refused(
    daemon: FakeDaemon, spawn: Spawn, monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    """A terminal gets colour, and with NO_COLOR none."""
    monkeypatch.setenv("NO_COLOR", no_color)
    daemon.status = status()
    ours, theirs = pty.openpty()
    process = spawn("status", stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)

    seen = b"".join(_read_all(ours))

    assert process.wait(20) == 0
    assert b"READY" in seen
    assert bool(re.search(rb"\x1b\[[0-9;]*3[0-7]m", seen)) is coloured


def _read_all(terminal: int) -> Iterator[bytes]:
    """Read until the last writer has gone, which Linux reports as EIO."""
    try:
        while chunk := os.read(terminal, 4096):
            yield chunk
    except OSError:
        os.close(terminal)
