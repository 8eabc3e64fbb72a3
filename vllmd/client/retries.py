"""What a client does about calls that fail: the steps of each, taken by threads and by asyncio alike. Pure.

A conversation is a generator: it yields what is to be done next, and is sent what came of it.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import grpc

from vllmd.client.errors import DaemonUnreachable, VllmdError
from vllmd.client.translation import out_of_time

RESTART_SECONDS = 10.0
"""What a daemon that has answered before gets to come back: its restart or upgrade takes about one, or some on a host
that is busy."""

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
"""What is asked of a daemon to see whether it answers."""

_TRIES = 3

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, slots=True)
class Try:
    """Make the call; the answer is its response, or the `VllmdError` that it failed with."""

    timeout: float | None
    """Seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """Wait for any daemon to say anything; the answer is the `VllmdError` that this failed with, or `None`."""

    timeout: float
    """Seconds."""


Steps = Generator[Try | Sleep | Check, Any, Result]


class Patience:
    """How long calls on one channel wait for a daemon.

    At most *connect_timeout* seconds, or `RESTART_SECONDS` once a daemon has answered: it is being restarted then,
    which nobody should notice. A unary call that the daemon refuses for the moment is made again at the time that it
    names, if that is as near.
    """

    def __init__(self, target: str, connect_timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        check_seconds(connect_timeout, "connect_timeout")
        self._target = target
        self._seconds = connect_timeout
        self._clock = clock

    def unary(self, timeout: float | None, once: bool) -> Steps[Any]:
        """Make a call that has one answer, again if need be.

        Args:
            timeout: seconds, for all tries together; `None` for as long as it takes.
            once: whether the call must not be made again if the daemon may have heard it.

        Raises:
            VllmdError: as the last try failed; `earlier` tells of one before it.
        """
        check_time(timeout)
        deadline = None if timeout is None else self._clock() + timeout
        earlier: VllmdError | None = None
        tries = 0
        while True:
            answer = yield Try(None if deadline is None else max(0.0, deadline - self._clock()))
            if not isinstance(answer, VllmdError):
                self.answered()
                return answer
            failure = answer
            failure.earlier = earlier
            tries += 1
            if tries == _TRIES:
                raise failure
            yield from self.before_another(failure, once, deadline)
            earlier = failure if failure.request_sent else earlier

    def before_another(self, failure: VllmdError, once: bool = True, deadline: float | None = None) -> Steps[None]:
        """End when a call may be made again; raise *failure* if it may not, or not before the deadline."""
        if not isinstance(failure, DaemonUnreachable) or failure.was_there:
            self.answered()
        patience = self._seconds if deadline is None else min(self._seconds, deadline - self._clock())
        seconds = pause(failure, once)
        if seconds is None or seconds >= patience:
            raise failure from None
        yield Sleep(seconds)
        try:
            yield from self.until_ready(patience - seconds)
        except DaemonUnreachable:
            if failure.request_sent:
                raise failure from None  # that none comes back is the lesser news: this call may have been heard
            raise

    def until_ready(self, timeout: float) -> Steps[None]:
        """Wait for a daemon to answer; raises `DaemonUnreachable` if none does within *timeout* seconds."""
        check_seconds(timeout, "timeout")
        deadline = self._clock() + timeout
        while True:
            failure: VllmdError | None = yield Check(max(0.0, deadline - self._clock()))
            if failure is not None and failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                message = f"no daemon answers at {self._target}: waited {round(timeout, 2):g} s"
                raise DaemonUnreachable(self._target, message, request_sent=False) from None
            if failure is not None and failure.reason == "CLIENT_CLOSED":
                raise failure
            # Any answer will do, a refusal as well.
            if not isinstance(failure, DaemonUnreachable):
                return

    def answered(self) -> None:
        """A daemon has answered: from now on it gets the time to come back."""
        self._seconds = max(self._seconds, RESTART_SECONDS)


def check_time(timeout: float | None) -> None:
    """Raise `DeadlineExceeded` where no time is left: gRPC may have an answer all the same, or not.

    Raises:
        ValueError: it has no end; gRPC takes that for one that has passed.
    """
    if timeout is None:
        return
    check_seconds(timeout, "timeout")
    if not math.isfinite(timeout):
        raise ValueError(f"timeout can't be {timeout}: leave it out for no limit")
    if timeout <= 0:
        raise out_of_time()


def check_seconds(value: float, name: str) -> None:
    """Raise `TypeError` where a time is given in another way."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")


def pause(failure: VllmdError, once: bool) -> float | None:
    """Say after how many seconds a call that failed may be made again; `None` if it may not.

    Args:
        failure: what it failed with.
        once: whether it must not be made again if the daemon may have heard it.
    """
    if once and failure.request_sent:
        return None
    if isinstance(failure, DaemonUnreachable):
        return 0.0
    # RESOURCE_EXHAUSTED may come with a time as well, but whether to wait for room is for people to decide.
    return failure.retry_after if failure.code is grpc.StatusCode.UNAVAILABLE else None
