"""What operators tell a daemon by signals, none of which is lost or ends it, not even while it executes new code.

They are blocked before there is any thread, which all then inherit, and read from a descriptor. One that nobody has
read is pending and outlasts `execve`, as the mask does. A handler's would be lost between the end of the loop and
the new program, or would end the process if some thread of gRPC's took it then.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator

from vllmd.tasks import spawn

_ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP)
_SIGSET_BYTES = 128
"""Of `sigset_t`, in glibc and musl."""
_INFO_BYTES = 128
"""Of `signalfd_siginfo`, which begins with the signal's number in 32 bits."""


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Keep signals for `Signals`; to be entered before there is any other thread.

    Children inherit it, so each that is to be ended by a signal has to undo it: see `worker.__main__`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
    try:
        yield
    finally:
        while signal.sigtimedwait(_ALL, 0) is not None:
            pass  # a last one must not end a process that has just ended well
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Signals:
    """SIGTERM and SIGINT: the first drains, the second hurries. SIGUSR2 upgrades. SIGHUP is up to who made this.

    Has to be made in a running event loop while signals are `blocked`. A terminal that is closed sends SIGHUP; by
    default that would end the daemon on the spot, and leave its engines.

    Args:
        reload: called for each SIGHUP.
    """

    def __init__(self, reload: Callable[[], None] = lambda: None) -> None:
        self._reload = reload
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._upgrade = asyncio.Event()
        self._fd: int | None = _open()
        asyncio.get_running_loop().add_reader(self._fd, self._read, self._fd)

    def close(self) -> None:
        """Read no more of them."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def hold(self) -> None:
        """Keep signals for the program that this process executes next."""
        self.close()
        if self.first.is_set():  # it came when the engines were not ours to end any more
            os.kill(os.getpid(), signal.SIGTERM)

    async def next_wish(self) -> bool:
        """Wait for what is wanted next: true to execute new code, false to stop."""
        waits = [spawn("stop?", self.first.wait()), spawn("upgrade?", self._upgrade.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._upgrade.clear()
        return not self.first.is_set()

    def _read(self, fd: int) -> None:
        match signal.Signals(int.from_bytes(os.read(fd, _INFO_BYTES)[:4], sys.byteorder)):
            case signal.SIGUSR2:
                self._upgrade.set()
            case signal.SIGHUP:
                self._reload()
            case _:
                (self.second if self.first.is_set() else self.first).set()


def _open() -> int:
    """Make a descriptor that the signals are read from; Python has none of its own for this.

    Raises:
        OSError: it can't be made.
    """
    wanted = (ctypes.c_ulong * (_SIGSET_BYTES // ctypes.sizeof(ctypes.c_ulong)))()
    wanted[0] = sum(1 << (signum - 1) for signum in _ALL)
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.signalfd(-1, wanted, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return fd
