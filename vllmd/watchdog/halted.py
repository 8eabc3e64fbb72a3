"""Who of another program's tree is just being stopped, written down for the next daemon should this one die then.

A stopped process stays so until somebody wakes it, and nothing shows who had stopped it. The next daemon may lack the
proof that the tree is an orphan's, as it did not see a parent die. So it goes by what was written: if the proof had
been made once more while all were stopped, which they still are, the kill is brought to its end. If not, they go on as
if nothing had been, and are judged anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import signal
from collections.abc import Iterable, Iterator

from vllmd.events import Events, Kind
from vllmd.worker.processes import Identity, Stat, boot_id, read_stat, signal_to

_PREFIX = ".halted-"
_CONFIRMED = "confirmed"
_DIGITS = 20

_log = logging.getLogger(__name__)


class Note:
    """What is being stopped of one tree. A disk that is full keeps nobody from being stopped.

    Args:
        path: its file; there is none until something is stopped.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def stopping(self, stats: Iterable[Stat]) -> None:
        """Write down who is to be stopped, right before that; who has been before is not to be woken by us."""
        lines = [f"{stat.identity.pid} {stat.identity.start_ticks}" for stat in stats if stat.state not in "Tt"]
        self._add(lines)

    def confirmed(self) -> bool:
        """Write down that all of them are to be killed."""
        self._add([_CONFIRMED])
        return True

    def _add(self, lines: Iterable[str]) -> None:
        with contextlib.suppress(OSError):
            before = [] if self._path.exists() else [boot_id()]
            with self._path.open("a") as file:
                file.write("".join(f"{line}\n" for line in (*before, *lines)))


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) < _DIGITS


@contextlib.contextmanager
def noted(directory: pathlib.Path, root: Identity) -> Iterator[Note]:
    """Keep a note in *directory* while the tree below *root* is being ended."""
    path = directory / f"{_PREFIX}{root.pid}-{root.start_ticks}"
    try:
        yield Note(path)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Halted:
    """What a note says."""

    identities: tuple[Identity, ...] = ()
    confirmed: bool = False


def parse(text: str, boot: str) -> Halted:
    """Read a note; its end may be missing, and in another boot it says nothing."""
    first, *lines = text.split("\n")[:-1] or [""]
    if first != boot:
        return Halted()
    pairs = [line.split() for line in lines if line != _CONFIRMED]
    numbers = [(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2 and all(map(_is_number, pair))]
    return Halted(tuple(Identity(pid, ticks) for pid, ticks in numbers), _CONFIRMED in lines)


def settle(directory: pathlib.Path, events: Events) -> None:
    """Kill or wake what a daemon that died had stopped, whichever it had come to, and remove its notes."""
    for path in sorted(directory.glob(f"{_PREFIX}*")):
        try:
            halted = parse(path.read_text(errors="replace") if path.is_file() else "", boot_id())
            _settle(halted, events)
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("the note %s of a daemon that died can't be settled: %s", path, error)


def _settle(halted: Halted, events: Events) -> None:
    # Who is not stopped any more was woken by somebody, and may have become anything since.
    killed = [
        one for one in halted.identities if halted.confirmed and _is_stopped(one) and _signal(one, signal.SIGKILL)
    ]
    stopped = [one.pid for one in halted.identities if one not in killed and _is_stopped(one)]
    # Whatever their state: one that was in the kernel then is stopped only when it comes back from there.
    woken = [one.pid for one in halted.identities if one not in killed and _signal(one, signal.SIGCONT)]
    pids = [one.pid for one in killed]
    if pids:
        message = f"The kill of {len(pids)} processes that a daemon had begun before it died is brought to its end."
        events.record(Kind.KILL, message, reasons=["they were proven to be an orphan's, and stopped since"], pids=pids)
    elif woken and stopped:
        message = f"{len(stopped)} processes that a daemon had stopped before it died go on."
        events.record(Kind.DAEMON, message, reasons=["it had yet to confirm that they are an orphan's"], pids=stopped)


def _is_stopped(identity: Identity) -> bool:
    stat = read_stat(identity.pid)
    return stat is not None and stat.identity == identity and stat.state == "T"


def _signal(identity: Identity, signum: signal.Signals) -> bool:
    try:
        return signal_to(identity, signum)
    except PermissionError:
        return False
