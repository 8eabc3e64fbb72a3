"""What operators tell a daemon by signals."""

from __future__ import annotations

import asyncio
import logging
import signal

_log = logging.getLogger(__name__)


class Signals:
    """SIGTERM and SIGINT: the first drains, the second hurries. SIGHUP changes nothing.

    A terminal that is closed sends SIGHUP; by default that would end the daemon on the spot, and leave its engines.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, self._received)
        ignored = "SIGHUP is ignored: the configuration is read at the start only; SIGTERM ends the daemon"
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _log.info, ignored)

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
