from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vllmd.interpreter import Interpreter

THIS = Path(sys.executable)


def test_an_interpreter_is_asked_with_what_it_may_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """And in a directory that holds no modules."""
    monkeypatch.setenv("HF_ENDPOINT", "http://hub")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("SITE_OWN", "of this host")
    names = ("HF_ENDPOINT", "AWS_SECRET_ACCESS_KEY", "SITE_OWN")
    program = f"import os; print(os.getcwd(), *map(os.environ.get, {names}))"

    assert Interpreter(THIS).ask(program, 10) == "/ http://hub None None\n"
    assert Interpreter(THIS, ("SITE_*",)).ask(program, 10) == "/ http://hub None of this host\n"


def test_what_it_said_counts_whatever_its_status() -> None:
    """Also in bytes that are no text."""
    program = "import sys; sys.stdout.buffer.write(b'said \\xff'); sys.stdout.flush(); sys.exit(3)"

    assert Interpreter(THIS).ask(program, 10) == "said \ufffd"


def test_one_that_can_not_be_asked_is_an_error() -> None:
    """It is not there, or does not answer in time."""
    with pytest.raises(FileNotFoundError):
        Interpreter(Path("/no/such/python")).ask("", 10)
    with pytest.raises(subprocess.TimeoutExpired):
        Interpreter(THIS).ask("import signal; signal.pause()", 0.5)
