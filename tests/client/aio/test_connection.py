from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.fakes.fake_daemon import FakeDaemon, Hang, Refusal, upgrading
from tests.fakes.host import Host
from tests.fakes.samples import status, stopped, tokens
from tests.fakes.served import serving
from vllmd.client import AsyncClient, Cancelled, DaemonUnreachable, DeadlineExceeded, InvalidRequest, VllmdError
from vllmd.v1.host_service_pb2 import StopEngineResponse


async def arrived(daemon: FakeDaemon) -> bool:
    """Wait for a call to come as far as a `Hang`."""
    return await asyncio.to_thread(daemon.arrived.acquire, timeout=5)


async def test_closed_stream_is_cancelled(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Closing a stream reaches the daemon, and the stream is at its end."""
    daemon.generate = [tokens()[0], Hang()]
    stream = async_client.generate("e", "x")
    await anext(stream)

    await stream.close()

    assert await asyncio.to_thread(daemon.cancelled.wait, 5)
    assert [response async for response in stream] == []


async def test_a_stream_that_is_left_by_a_break_is_cancelled(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Nobody would close it: `async for` does not, and its tokens would be made to the end."""
    daemon.generate = [tokens()[0], Hang()]

    async def first() -> str:
        async for delta in async_client.generate("e", "x"):
            return delta.text
        raise AssertionError("nothing came")

    assert await first() == tokens()[0].text
    assert await asyncio.to_thread(daemon.cancelled.wait, 5)


async def test_leaving_the_block_cancels(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """An `async with` block cancels its stream however it is left."""
    daemon.generate = [tokens()[0], Hang()]

    async def fail() -> None:
        async with async_client.generate("e", "x") as stream:
            await anext(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await asyncio.to_thread(daemon.cancelled.wait, 5)


async def test_stream_is_closed_by_another_task(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Who waits for the next response gets the end of the stream instead, and is not cancelled."""
    daemon.generate = [Hang()]
    stream = async_client.generate("e", "x")

    async def read() -> list[str]:
        return [response.text async for response in stream]

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        assert await arrived(daemon)
        await stream.close()

    assert reading.result() == []


async def test_cancelled_task_cancels_its_stream(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """The daemon hears of it, and the task is cancelled and not told of any failure."""
    daemon.generate = [tokens()[0], Hang()]

    async def read() -> None:
        async for _ in async_client.generate("e", "x"):
            pass

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(read())
        assert await arrived(daemon)
        task.cancel()

    assert task.cancelled()

    assert await asyncio.to_thread(daemon.cancelled.wait, 5)


async def test_cancelled_task_cancels_its_call(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Likewise a unary one, which is not made again."""
    daemon.release = Hang()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(async_client.release("x"))
        assert await arrived(daemon)
        task.cancel()

    assert task.cancelled()
    assert len(daemon.requests) == 1


async def test_client_that_leaves_cancels_its_calls(daemon: FakeDaemon) -> None:
    """The end of a client is the end of its calls, of which who waits for them is told."""
    daemon.generate = [tokens()[0], Hang()]
    daemon.release = Hang()
    client = AsyncClient(daemon.target)
    stream = client.generate("e", "x")
    await anext(stream)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(failure_of(client))
        assert await arrived(daemon)
        assert await arrived(daemon)
        await client.close()

    assert isinstance(task.result(), Cancelled)
    assert await asyncio.to_thread(daemon.cancelled.wait, 5)
    with pytest.raises(Cancelled, match="CLIENT_CLOSED"):
        await client.status()
    with pytest.raises(Cancelled, match="CLIENT_CLOSED"):
        client.generate("e", "x")


async def failure_of(client: AsyncClient) -> VllmdError:
    """Release a lease, and return what that failed with."""
    with pytest.raises(VllmdError) as caught:
        await client.release("x")
    return caught.value


async def test_calls_wait_for_a_daemon_that_starts(tmp_path: Path) -> None:
    """With a connect timeout, calls and streams outlast the time until the daemon listens."""
    async with AsyncClient(f"unix:{tmp_path}/vllmd.sock", connect_timeout=20) as client:
        stream = client.generate("e", "x")
        async with asyncio.TaskGroup() as tasks:
            calling = tasks.create_task(client.status())
            reading = tasks.create_task(anext(stream))
            await asyncio.sleep(0)
            daemon = FakeDaemon(tmp_path)
            daemon.status = status()
            daemon.generate = list(tokens())
            with daemon:
                await calling
                await reading

    assert calling.result().host.hostname == "gpu-host-3"
    assert reading.result().text == "Once"


async def test_waiting_has_an_end(tmp_path: Path) -> None:
    """Where no daemon comes, waiting ends with DaemonUnreachable; without a connect timeout it does not begin."""
    async with AsyncClient(f"unix:{tmp_path}/vllmd.sock", connect_timeout=0.05) as client:
        with pytest.raises(DaemonUnreachable, match=r"waited 0\.05 s"):
            await client.status()
    async with AsyncClient(f"unix:{tmp_path}/vllmd.sock") as client:
        with pytest.raises(DaemonUnreachable, match="there is no such socket"):
            await client.status()
        with pytest.raises(DaemonUnreachable, match="there is no such socket"):
            await anext(client.generate("e", "x"))


async def test_unary_call_that_meets_an_upgrade_is_made_again(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """At the time that the daemon names; a stream, and what must not be done twice, is not."""
    daemon.refusals = [upgrading(), upgrading()]
    daemon.stop = StopEngineResponse(engine=stopped())
    assert (await async_client.stop("a-1")).reclaim.verified
    assert len(daemon.requests) == 3

    daemon.refusals = [upgrading()]
    daemon.generate = [upgrading()]
    with pytest.raises(VllmdError, match="UPGRADING"):
        await async_client.reclaim(confirmed=True)
    with pytest.raises(VllmdError, match="UPGRADING"):
        await anext(async_client.generate("e", "x"))


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.05])
async def test_deadline_that_passes(daemon: FakeDaemon, async_client: AsyncClient, timeout: float) -> None:
    """Before or during a call."""
    daemon.release = Hang()
    daemon.generate = [Hang()]

    with pytest.raises(DeadlineExceeded):
        await async_client.release("x", timeout=timeout)
    with pytest.raises(DeadlineExceeded):
        await anext(async_client.generate("e", "x", timeout=timeout))


async def test_details_of_an_error_arrive(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """As with the synchronous client, as long log tails do."""
    daemon.stop = Refusal("ENGINE_DIED", "it died", metadata={"a": "1"}, log_lines=["x" * 120] * 100)

    with pytest.raises(VllmdError) as caught:
        await async_client.stop("x")

    assert caught.value.metadata == {"a": "1"}
    assert len(caught.value.log_lines) == 100


async def test_message_over_the_limit_is_an_invalid_request(async_client: AsyncClient) -> None:
    """Although gRPC calls it exhaustion."""
    with pytest.raises(InvalidRequest, match="MESSAGE_TOO_LARGE"):
        await anext(async_client.generate("e", "x" * (65 << 20)))


async def test_daemon_that_dies_breaks_its_streams(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """A stream whose daemon goes away ends with DaemonUnreachable."""
    daemon.generate = [tokens()[0], Hang()]
    stream = async_client.generate("e", "x")
    await anext(stream)
    assert await arrived(daemon)
    await asyncio.to_thread(daemon.close)

    with pytest.raises(DaemonUnreachable):
        await anext(stream)


async def test_who_watches_slowly_gets_the_latest() -> None:
    """Hundreds of changes while nobody reads are a few responses."""
    async with Host() as host, serving(host) as served, AsyncClient(str(host.directory / "s")) as client:
        engine = (await served.load()).engine.name
        stream = client.watch_engines(engine, min_interval=0)
        await anext(stream)
        for number in range(400):
            host.scheduler.leases.grant(f"l{number}", engine.partition("/")[2], 60.0, time.monotonic())
            host.scheduler.engines.changed.notify()
            await asyncio.sleep(0.001)
        counts = [(await anext(stream)).engines[0].lease_count]
        while counts[-1] < 401:
            counts.append((await anext(stream)).engines[0].lease_count)

        assert len(counts) < 20


def test_client_of_another_loop_says_so() -> None:
    """Whatever is asked of it; gRPC would hang, or speak of a loop that is closed."""

    async def make() -> AsyncClient:
        return AsyncClient("unix:/a.sock")

    async def use(client: AsyncClient) -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await client.status()
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            client.generate("e", "x")

    client = asyncio.run(make())
    asyncio.run(use(client))
    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        client.generate("e", "x")
