"""What operators tell a daemon by signals."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading

from vllmd.tasks import spawn

_ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP)

_log = logging.getLogger(__name__)


class Signals:
    """SIGTERM and SIGINT: the first drains, the second hurries. SIGUSR2 upgrades. SIGHUP changes nothing.

    A terminal that is closed sends SIGHUP; by default that would end the daemon on the spot, and leave its engines.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._upgrade = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, self._received)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, self._upgrade.set)
        ignored = "SIGHUP is ignored: the configuration is read at the start only; SIGTERM ends the daemon"
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _log.info, ignored)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)  # what came in between two programs is heard now

    def hold(self) -> None:
        """Keep signals for the program that this process executes next: until it listens, each would end it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
        if self.first.is_set():  # it came when the engines were not ours to end any more
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    async def next_wish(self) -> bool:
        """Wait for what is wanted next: true to execute new code, false to stop."""
        waits = [spawn("stop?", self.first.wait()), spawn("upgrade?", self._upgrade.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._upgrade.clear()
        return not self.first.is_set()

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
