"""What the daemon tells systemd about itself: that it is ready, that it lives, what it does, and how long that takes.

Without `$NOTIFY_SOCKET` nothing is told. The variable stays set, as the program that an upgrade executes needs it; what
engines inherit is up to `engines.process`, and of other children systemd takes no word (`NotifyAccess=main`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from vllmd.tasks import spawn

_STATUS_SECONDS = 1.0
"""No more than one status in this time."""
_EXTEND_SECONDS = 30.0
"""What systemd is asked to wait for the next word, where something takes as long as it takes."""
_EXTEND_EVERY_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Notifier:
    """Talks to the service manager that started this process, if one did.

    Args:
        environment: where it said how.
        clock: seconds; what limits the rate.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = sender(environment)
        self._clock = clock
        self._watchdog = watchdog_seconds(environment)
        self._pinged = float("-inf")
        self._status = ""
        self._status_sent = float("-inf")
        self._broken = False

    def ready(self) -> None:
        """It serves: `systemctl start` returns, and what comes after this unit is started."""
        self._tell("READY=1")

    def pulse(self, status: str) -> None:
        """Show that the loop which calls this lives, and what it does; to be called about once a second.

        Pings are sent at half of the time after which systemd would act, and a status when it has changed.
        """
        now = self._clock()
        if self._watchdog is not None and now - self._pinged >= self._watchdog / 2:
            self._pinged = now
            self._tell("WATCHDOG=1")
        if status != self._status and now - self._status_sent >= _STATUS_SECONDS:
            self._say(status)

    @contextlib.contextmanager
    def reloading(self, status: str = "Reading the configuration again.") -> Iterator[None]:
        """Have `systemctl reload` wait until this is left."""
        # systemd tells by the time whether this or an earlier reload is meant.
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={microseconds}", f"STATUS={status}")
        self._status = status
        try:
            yield
        finally:
            self.ready()

    def executing(self) -> None:
        """The program is executed anew, in the same process; the new one tells when it is ready."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        self._say("Executing the new program; engines stay.")

    def stopping(self) -> None:
        """It is on its way out, by whose wish ever."""
        self._tell("STOPPING=1")
        self._say("Stopping: running generations may finish.")

    @contextlib.asynccontextmanager
    async def extending(self) -> AsyncIterator[None]:
        """Have systemd wait as long as this takes: for the timeouts of a start and a stop, and for the watchdog.

        A loop that is stuck says nothing, so these still end it.
        """
        self._extend()
        task = spawn("extend", self._keep_extending())
        try:
            yield
        finally:
            task.cancel()

    async def _keep_extending(self) -> None:
        while True:
            await asyncio.sleep(_EXTEND_EVERY_SECONDS)
            self._extend()

    def _extend(self) -> None:
        alive = ["WATCHDOG=1"] if self._watchdog is not None else []
        self._tell(f"EXTEND_TIMEOUT_USEC={int(_EXTEND_SECONDS * 1e6)}", *alive)

    def _say(self, status: str) -> None:
        self._status, self._status_sent = status, self._clock()
        self._tell(f"STATUS={' '.join(status.split())}")

    def _tell(self, *assignments: str) -> None:
        if self._send is None:
            return
        try:
            self._send("\n".join(assignments))
        except OSError as error:
            if not self._broken:  # once: it is told again every second
                _log.warning("systemd can't be told anything: %s", error)
            self._broken = True
        else:
            self._broken = False


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Tell after how many seconds without a ping systemd ends this process; `None` if it does not watch it."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None


def sender(environment: Mapping[str, str]) -> Callable[[str], object] | None:
    """Find the way to the service manager: systemd-python where it is installed, else a datagram of our own."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    if environment is os.environ:
        try:
            from systemd.daemon import notify
        except ImportError:
            pass  # it is optional, and all that it does with a message is `datagram`
        else:
            return functools.partial(notify, unset_environment=False)
    return functools.partial(datagram, address)


def datagram(address: str, message: str) -> None:
    """Send a message to a service manager; `@` at the beginning stands for the abstract namespace.

    Raises:
        OSError: nobody is there any more, or takes no more for now.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
        end.settimeout(1.0)  # a manager that is being executed anew must not hold up the loop for long
        end.connect("\0" + address[1:] if address.startswith("@") else address)
        end.sendall(message.encode())
