"""Where the daemon's log goes: to the journal with fields and priorities where it ends up there, else to a stream."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""Those of syslog(3), the highest level first."""
_MARK = "\n| "
"""Not only spaces: the journal takes those off."""


def set_up(level: str) -> None:
    """Have everything from *level* on written to standard error, or to the journal if that is where it leads."""
    logging.basicConfig(level=level.upper(), handlers=[handler(os.environ)])


def handler(environment: Mapping[str, str], stream: int = 2) -> logging.Handler:
    """Make what writes the log.

    The journal has its own times. systemd-python writes fields there by which it can be searched: `ENGINE=`, `GPU=`,
    `MODEL=`, `LEASE=`, `EVENT=`; without it lines carry their priority, and what they are about is in their text.
    """
    if not leads_to_journal(environment, stream):
        result: logging.Handler = logging.StreamHandler(sys.stderr)
        result.setFormatter(Marked("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        return result
    try:
        from systemd.journal import JournalHandler
    except ImportError:
        result = logging.StreamHandler(sys.stderr)
        result.setFormatter(Prefixed("%(name)s: %(message)s"))
        return result
    result = JournalHandler(SYSLOG_IDENTIFIER="vllmd")
    result.setFormatter(Marked("%(name)s: %(message)s"))
    return result


def leads_to_journal(environment: Mapping[str, str], stream: int = 2) -> bool:
    """Tell whether a descriptor is the very stream that systemd connected to the journal, and nobody redirected it."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream)
    except OSError:
        return False  # closed: nothing that is written there leads anywhere
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class Marked(logging.Formatter):
    """Marks all lines of a record but its first, and escapes what is no text.

    Messages quote what clients and engines have written. Neither is to make a line that looks like one of the daemon's
    own, such as one of the audit, nor to write anything to a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        return _MARK.join(_escaped(line) for line in super().format(record).split("\n"))


class Prefixed(Marked):
    """Begins each line with its priority, which the journal takes off: it makes an entry of every line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        reached = (number for level, number in _PRIORITIES.items() if record.levelno >= level)
        priority = next(reached, 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() or one == "\t" else one.encode("unicode_escape").decode() for one in line)
