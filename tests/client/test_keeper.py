from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator

import grpc
import pytest

from vllmd.client.connection import Stream
from vllmd.client.errors import NotFound, Unavailable
from vllmd.client.keeper import Keeper
from vllmd.client.values import duration
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import Lease

SHORT = Lease(name="leases/1", ttl=duration(0.03))
LONG = Lease(name="leases/1", ttl=duration(3600))


@pytest.fixture
def renewed() -> queue.Queue[str]:
    """Which leases were renewed."""
    return queue.Queue()


@pytest.fixture
def held() -> Iterator[Stream[pb.LoadModelResponse]]:
    """A stream that holds a lease until it is closed."""
    closed = threading.Event()

    def pull() -> pb.LoadModelResponse:
        closed.wait()
        raise StopIteration

    stream = Stream(pull, closed.set)
    yield stream
    stream.close()


def renew(renewed: queue.Queue[str], lease: Lease, name: str) -> Lease:
    """Renew a lease."""
    renewed.put(name)
    return lease


def test_lease_is_renewed_until_the_keeper_is_stopped(renewed: queue.Queue[str]) -> None:
    """By its name, in a thread that ends then."""
    keeper = Keeper(SHORT, None, lambda name: renew(renewed, SHORT, name))

    assert [renewed.get(timeout=10) for _ in range(3)] == ["leases/1"] * 3
    keeper.stop()
    keeper.join()
    keeper.check()


def test_another_length_counts_at_once(renewed: queue.Queue[str]) -> None:
    """A lease that was made shorter is not let run out while the keeper waits by its old length."""
    keeper = Keeper(LONG, None, lambda name: renew(renewed, SHORT, name))
    keeper.changed(SHORT)

    assert renewed.get(timeout=10)
    assert renewed.get(timeout=10)
    assert keeper.lease == SHORT
    keeper.stop()


def test_failure_is_raised_when_the_lease_is_used() -> None:
    """And by whoever waits for its end."""

    def gone(name: str) -> Lease:
        raise NotFound(grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND", "")

    keeper = Keeper(SHORT, None, gone)
    with pytest.raises(NotFound):
        keeper.join()
    with pytest.raises(NotFound):
        keeper.check()


def test_failure_is_another_object_each_time() -> None:
    """Its traceback does not grow with the calls that it was raised in, and no thread has another's."""

    def pull() -> pb.LoadModelResponse:
        raise Unavailable(grpc.StatusCode.UNAVAILABLE, "ENGINE_STOPPED", "it is gone", {"engine": "a-1"})

    keeper = Keeper(Lease(name="leases/1"), Stream(pull, lambda: None), lambda _: SHORT)
    with pytest.raises(Unavailable) as first:
        keeper.join()
    with pytest.raises(Unavailable) as second:
        keeper.check()

    assert first.value is not second.value
    assert vars(first.value) == vars(second.value)
    assert len(first.traceback) > len(second.traceback) == 2


def test_held_lease_ends_with_the_keeper(renewed: queue.Queue[str], held: Stream[pb.LoadModelResponse]) -> None:
    """Its stream is closed, and nothing was renewed."""
    keeper = Keeper(Lease(name="leases/1"), held, lambda name: renew(renewed, SHORT, name))
    keeper.stop()
    keeper.join()

    assert renewed.empty()


def test_stream_that_fails_is_the_failure() -> None:
    """An engine that dies ends the stream with the reason."""

    def pull() -> pb.LoadModelResponse:
        raise Unavailable(grpc.StatusCode.UNAVAILABLE, "ENGINE_STOPPED", "")

    keeper = Keeper(Lease(name="leases/1"), Stream(pull, lambda: None), lambda _: SHORT)
    with pytest.raises(Unavailable, match="ENGINE_STOPPED"):
        keeper.join()


def test_python_ends_while_a_lease_is_kept() -> None:
    """The thread waits for nobody."""
    program = (
        "from vllmd.client.keeper import Keeper\n"
        "from vllmd.client.values import duration\n"
        "from vllmd.v1.engine_pb2 import Lease\n"
        "keeper = Keeper(Lease(ttl=duration(3600)), None, lambda name: Lease())\n"
        "print('over')"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "over\n", "")
