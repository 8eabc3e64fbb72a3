from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal
import subprocess
import sys

import pytest

from tests.fakes.foreign import Foreign, send, stat_of
from tests.fakes.processes import ends, eventually, lives
from vllmd.events import Events, Kind
from vllmd.watchdog.halted import Halted, Note, noted, parse, settle
from vllmd.worker.processes import Identity, boot_id

DAEMON = """
import pathlib, signal, sys
from vllmd.watchdog.halted import noted
from vllmd.worker.descent import Descent
from vllmd.worker.processes import read_stat
root = read_stat(int(sys.argv[2]))
with noted(pathlib.Path(sys.argv[1]), root.identity) as note:
    def confirm():
        if sys.argv[3] == "confirmed":
            note.confirmed()
        print(flush=True)
        signal.pause()
    Descent(root).kill(5.0, confirm, note.stopping)
"""


def die_while_it_is_stopped(directory: pathlib.Path, foreign: Foreign, how: str) -> None:
    """Be a daemon that is killed when it has stopped a tree."""
    argv = [sys.executable, "-c", DAEMON, str(directory), str(foreign.core.pid), how]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"\n"
        daemon.kill()


def states(foreign: Foreign) -> tuple[str, str]:
    """Of the core and its worker."""
    return stat_of(foreign.core.pid).state, stat_of(foreign.worker.pid).state


def test_what_a_dead_daemon_had_stopped_goes_on(runtime: pathlib.Path) -> None:
    """It had not confirmed that it is an orphan, and nobody else would wake it."""
    events = Events()
    with Foreign("serving", runtime) as foreign:
        die_while_it_is_stopped(runtime, foreign, "unconfirmed")
        before = states(foreign)
        settle(runtime, events)
        woken = eventually(lambda: states(foreign) == ("S", "S"))
        (event,) = events.after(0)[0]

        assert before == ("T", "T")
        assert woken
        assert (event.kind, set(event.pids)) == (Kind.DAEMON, {foreign.core.pid, foreign.worker.pid})
        assert list(runtime.glob(".halted*")) == []


def test_a_kill_that_was_confirmed_is_brought_to_its_end(runtime: pathlib.Path) -> None:
    """The proof was made while they were stopped, and they still are."""
    events = Events()
    with Foreign("serving", runtime) as foreign:
        die_while_it_is_stopped(runtime, foreign, "confirmed")
        settle(runtime, events)
        (event,) = events.after(0)[0]

        assert ends(foreign.core, 5.0)
        assert ends(foreign.worker, 5.0)
        assert lives(foreign.launcher)
        assert event.kind is Kind.KILL


@pytest.mark.parametrize("how", ["confirmed", "unconfirmed"])
def test_who_was_woken_or_stopped_by_others_is_left_alone(runtime: pathlib.Path, how: str) -> None:
    """Whoever did that has something in mind, and what runs may be something else by now."""
    events = Events()
    with Foreign("serving", runtime) as foreign:
        send(foreign.worker, signal.SIGSTOP)
        assert eventually(lambda: stat_of(foreign.worker.pid).state == "T")
        die_while_it_is_stopped(runtime, foreign, how)
        send(foreign.core, signal.SIGCONT)
        assert eventually(lambda: states(foreign) == ("S", "T"))
        settle(runtime, events)

        assert states(foreign) == ("S", "T")
        assert lives(foreign.core)
        assert events.after(0)[0] == []


def test_a_note_is_gone_when_the_end_is(runtime: pathlib.Path) -> None:
    """It is there only while somebody is stopped; where it can't be written, nobody is kept from being stopped."""
    with Foreign("serving", runtime) as foreign:
        stat = stat_of(foreign.core.pid)
        with noted(runtime, foreign.core) as note:
            note.stopping([stat])
            written = [path.read_text() for path in runtime.glob(".halted*")]
        with noted(runtime / "missing", foreign.core) as note:
            note.stopping([stat])
            confirmed = note.confirmed()

        assert written == [f"{boot_id()}\n{foreign.core.pid} {foreign.core.start_ticks}\n"]
        assert list(runtime.glob(".halted*")) == []
        assert confirmed


def test_what_is_no_note_is_removed(runtime: pathlib.Path) -> None:
    """A pipe under the name of one must not hold a daemon up."""
    os.mkfifo(runtime / ".halted-1-1")
    settle(runtime, Events())

    assert list(runtime.glob(".halted*")) == []


def test_who_is_stopped_only_later_is_woken_as_well(runtime: pathlib.Path) -> None:
    """A process in the kernel, as in `vfork`, stops when it comes back from there, long after the daemon's death."""
    with InTheKernel(runtime) as held:
        Note(runtime / ".halted-by-the-dead").stopping([stat_of(held.identity.pid)])
        send(held.identity, signal.SIGSTOP)
        before = stat_of(held.identity.pid).state
        settle(runtime, Events())
        held.let_go()

        assert before == "D"
        assert held.goes_on()


class InTheKernel:
    """A process that waits in `vfork` for a child that waits for somebody to read a pipe."""

    PROGRAM = """
import os, sys
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 3, sys.argv[1], os.O_WRONLY, 0)])
print("on", flush=True)
"""

    def __init__(self, directory: pathlib.Path) -> None:
        self._pipe = directory / "pipe"
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> InTheKernel:
        os.mkfifo(self._pipe)
        argv = [sys.executable, "-c", self.PROGRAM, str(self._pipe)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        self.identity = stat_of(self._process.pid).identity
        assert eventually(lambda: stat_of(self._process.pid).state == "D")
        return self

    def let_go(self) -> None:
        """Open the other end of the pipe, for as long as this lasts: the child may not have come to it yet."""
        self._ends.callback(os.close, os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK))

    def goes_on(self) -> bool:
        """Wait for its word."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], 5.0)
        return bool(readable) and self._process.stdout.readline() == b"on\n"

    def __exit__(self, *error: object) -> None:
        self.let_go()
        self._process.kill()
        self._process.communicate()
        self._ends.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", Halted()),
        ("b", Halted()),
        ("b\n7 8\n9 1", Halted((Identity(7, 8),))),
        ("b\n7 8\nconfirmed\n", Halted((Identity(7, 8),), confirmed=True)),
        ("b\n7 8\nconfirm", Halted((Identity(7, 8),))),
        ("b\n7\n-7 8\nx y\n1 2 3\n", Halted()),
        ("another\n7 8\nconfirmed\n", Halted()),
        pytest.param(f"b\n7 {'8' * 5000}\n9 1\n", Halted((Identity(9, 1),)), id="a number without end"),
    ],
)
def test_a_note_may_be_cut_short(text: str, said: Halted) -> None:
    """Only whole lines count, and those of this boot."""
    assert parse(text, "b") == said
