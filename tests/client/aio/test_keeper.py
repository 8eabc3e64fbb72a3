from __future__ import annotations

import asyncio
import subprocess
import sys

import grpc
import pytest

from vllmd.client.aio.connection import AsyncStream
from vllmd.client.aio.keeper import AsyncKeeper
from vllmd.client.errors import NotFound, Unavailable
from vllmd.client.values import duration
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import Lease

SHORT = Lease(name="leases/1", ttl=duration(0.03))
LONG = Lease(name="leases/1", ttl=duration(3600))


class Renewals:
    """Renews leases, and tells which."""

    def __init__(self) -> None:
        self.names: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, name: str) -> Lease:
        await self.names.put(name)
        return SHORT


async def test_lease_is_renewed_until_the_keeper_is_stopped() -> None:
    """By its name, in a task that ends then."""
    renew = Renewals()
    keeper = AsyncKeeper(SHORT, None, renew)

    async with asyncio.timeout(10):
        assert [await renew.names.get() for _ in range(3)] == ["leases/1"] * 3
        keeper.stop()
        await keeper.join()
    keeper.check()


async def test_another_length_counts_at_once() -> None:
    """A lease that was made shorter is not let run out while the keeper waits by its old length."""
    renew = Renewals()
    keeper = AsyncKeeper(LONG, None, renew)
    keeper.changed(SHORT)

    async with asyncio.timeout(10):
        assert [await renew.names.get() for _ in range(2)] == ["leases/1"] * 2
    keeper.stop()


async def test_failure_is_raised_when_the_lease_is_used() -> None:
    """And by whoever waits for its end."""

    async def gone(name: str) -> Lease:
        raise NotFound(grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND", "")

    keeper = AsyncKeeper(SHORT, None, gone)
    with pytest.raises(NotFound):
        await keeper.join()
    with pytest.raises(NotFound):
        keeper.check()


async def test_failure_is_another_object_each_time() -> None:
    """Its traceback does not grow with the calls that it was raised in."""

    async def gone(name: str) -> Lease:
        raise NotFound(grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND", "")

    keeper = AsyncKeeper(SHORT, None, gone)
    with pytest.raises(NotFound) as first:
        await keeper.join()
    with pytest.raises(NotFound) as second:
        keeper.check()

    assert first.value is not second.value
    assert len(second.traceback) == 2


async def test_stream_that_fails_is_the_failure() -> None:
    """An engine that dies ends the stream with the reason."""

    async def pull() -> pb.LoadModelResponse:
        raise Unavailable(grpc.StatusCode.UNAVAILABLE, "ENGINE_STOPPED", "")

    keeper = AsyncKeeper(Lease(name="leases/1"), AsyncStream(pull, lambda: None), Renewals())
    with pytest.raises(Unavailable, match="ENGINE_STOPPED"):
        await keeper.join()


async def test_held_lease_ends_with_the_keeper() -> None:
    """Its stream is cancelled, also if that is done from a thread that collects what is left over."""
    cancelled = asyncio.Event()

    async def pull() -> pb.LoadModelResponse:
        await asyncio.Event().wait()
        raise StopAsyncIteration

    keeper = AsyncKeeper(Lease(name="leases/1"), AsyncStream(pull, cancelled.set), Renewals())
    await asyncio.to_thread(keeper.abandon)

    async with asyncio.timeout(10):
        await cancelled.wait()
        await keeper.join()


def test_python_ends_while_a_lease_is_kept() -> None:
    """The task waits for nobody, and the loop's end leaves no word about it."""
    program = (
        "import asyncio\n"
        "from vllmd.client.aio.keeper import AsyncKeeper\n"
        "from vllmd.client.values import duration\n"
        "from vllmd.v1.engine_pb2 import Lease\n"
        "async def main(): return AsyncKeeper(Lease(ttl=duration(3600)), None, None)\n"
        "keeper = asyncio.run(main())\n"
        "keeper.abandon()\n"
        "print('over')"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "over\n", "")
