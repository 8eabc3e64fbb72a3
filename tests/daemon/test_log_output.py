from __future__ import annotations

import logging
import os
import pathlib
import re
import sys
import types

import pytest

from vllmd.daemon import log_output
from vllmd.daemon.log_output import Prefixed, handler, leads_to_journal


def stream_of(fd: int) -> dict[str, str]:
    """What systemd sets when it has connected a descriptor to the journal."""
    status = os.fstat(fd)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def record(level: int, message: str) -> logging.LogRecord:
    """A line of the log."""
    return logging.LogRecord("vllmd.x", level, "", 0, message, (), None)


def test_the_journal_is_known_by_its_stream(tmp_path: pathlib.Path) -> None:
    """Not by the variable alone: somebody may have redirected the stream since, or closed it."""
    with (tmp_path / "log").open("w") as log, (tmp_path / "other").open("w") as other:
        environment = stream_of(log.fileno())
        found = [leads_to_journal(given, log.fileno()) for given in (environment, {}, {"JOURNAL_STREAM": "x"})]
        redirected = leads_to_journal(environment, other.fileno())
        closed = log.fileno()
    gone = leads_to_journal(environment, closed)

    assert found == [True, False, False]
    assert (redirected, gone) == (False, False)


def test_a_terminal_gets_times_and_levels() -> None:
    """It adds none of its own."""
    made = handler({})

    assert "WARNING vllmd.x: careful" in made.format(record(logging.WARNING, "careful"))


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (logging.CRITICAL, "<2>"),
        (logging.ERROR, "<3>"),
        (logging.WARNING, "<4>"),
        (logging.INFO, "<6>"),
        (logging.DEBUG, "<7>"),
        (1, "<7>"),
    ],
)
def test_each_line_has_its_priority(level: int, prefix: str) -> None:
    """The journal makes an entry of each; times are its own."""
    text = Prefixed("%(name)s: %(message)s").format(record(level, "one\ntwo"))

    assert text == f"{prefix}vllmd.x: one\n{prefix}| two"


@pytest.mark.parametrize("made", [handler({}), handler(stream_of(2))])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x0b", "\x85", "\u2028"])
def test_no_message_forges_a_line(made: logging.Handler, end: str) -> None:
    """What a client has written stands in many: no line of it looks like one of the audit."""
    forged = "vllmd.audit: StopEngine, operator by admin.sock: OK"
    first, *others = made.format(record(logging.INFO, f"no dtype x{end}{forged}")).splitlines()

    assert "vllmd.x: no dtype x" in first
    assert all(re.sub(r"^<\d>", "", line).startswith("| ") for line in others)


def test_nothing_is_written_to_a_terminal_but_text() -> None:
    """No colours, titles or directions of writing."""
    text = handler({}).format(record(logging.INFO, "a\x1b]0;b\x07\u202e\tä 模型"))

    assert text.endswith(r"vllmd.x: a\x1b]0;b\x07\u202e" + "\tä 模型")


def test_without_a_library_lines_have_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional."""
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    made = handler(stream_of(2))

    assert made.format(record(logging.INFO, "one")) == "<6>vllmd.x: one"


def test_with_it_the_journal_gets_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, so that their fields get there."""

    class JournalHandler(logging.Handler):
        def __init__(self, **fields: str) -> None:
            super().__init__()
            self.fields = fields

    module = types.ModuleType("systemd.journal")
    module.JournalHandler = JournalHandler  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd", types.ModuleType("systemd"))
    monkeypatch.setitem(sys.modules, "systemd.journal", module)
    made = log_output.handler(stream_of(2))

    assert isinstance(made, JournalHandler)
    assert made.fields == {"SYSLOG_IDENTIFIER": "vllmd"}
    assert made.format(record(logging.INFO, "one")) == "vllmd.x: one"
