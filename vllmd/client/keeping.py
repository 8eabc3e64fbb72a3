"""How a lease is kept while its model is in use: the steps, taken by a thread or by a task. Pure.

A lease that is held by its stream lasts as long as that. The daemon's restart breaks the stream and leaves the lease
for a minute, so it is renewed from then on, as one that was never held is all the time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator

from vllmd.client.errors import DaemonUnreachable, DeadlineExceeded, Unavailable, VllmdError
from vllmd.client.retries import RESTART_SECONDS
from vllmd.v1 import engine_pb2

_OFTEN = 3
_OFTEN_AFTER_FAILURE = 10
"""So many times within a lease's length it is renewed."""

_TRY_SECONDS = 0.5
_TRIES = round(RESTART_SECONDS / _TRY_SECONDS)


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """Read the held stream to its end; the answer is the `VllmdError` that it failed with, or `None`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Renew:
    """Renew the lease; the answer is the lease, or the `VllmdError` that this failed with."""


Step = Watch | Pause | Renew
Answer = engine_pb2.Lease | VllmdError | None
Keeping = Generator[Step, Answer, None]


def keeping(lease: engine_pb2.Lease, held: bool, clock: Callable[[], float] = time.monotonic) -> Keeping:
    """Keep a lease until somebody ends it.

    Raises:
        VllmdError: its engine failed, or it can't be kept.
    """
    if held:
        failure = yield Watch()
        if failure is None:
            return  # it was released
        assert isinstance(failure, VllmdError)
        if not outlasted_by_lease(failure):
            raise failure
        lease = yield from _taken_over(failure)
    yield from _renewing(lease, clock)


def _taken_over(failure: VllmdError) -> Generator[Step, Answer, engine_pb2.Lease]:
    """Renew a lease whose stream broke, until the next program is the one that answers; raise if it does not."""
    for _ in range(_TRIES):
        answer = yield Renew()
        if isinstance(answer, VllmdError):
            raise answer
        assert answer is not None
        if answer.HasField("ttl"):
            return answer
        # Held still: the program that is on its way out has answered.
        yield Pause(_TRY_SECONDS)
    raise failure


def _renewing(lease: engine_pb2.Lease, clock: Callable[[], float]) -> Keeping:
    """Renew a lease for as long as it has a length: without one it is another stream that holds it."""
    renewed = clock()
    often = _OFTEN
    while lease.HasField("ttl"):
        ttl = lease.ttl.ToTimedelta().total_seconds()
        yield Pause(ttl / often)
        asked = clock()
        answer = yield Renew()
        if isinstance(answer, engine_pb2.Lease):
            lease, renewed, often = answer, asked, _OFTEN
            continue
        assert answer is not None
        if not isinstance(answer, (Unavailable, DeadlineExceeded)) or clock() - renewed > ttl:
            raise answer
        often = _OFTEN_AFTER_FAILURE


def outlasted_by_lease(failure: VllmdError) -> bool:
    """Tell whether a held stream ended with the daemon's program alone: its successor has the lease."""
    return isinstance(failure, DaemonUnreachable) or failure.reason == "UPGRADING"
