"""Both clients against a daemon as it is, with fake engines: what they outlast, and what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.host.running import Home, RunningDaemon, home, until
from vllmd.client import (
    AsyncClient,
    Client,
    DaemonUnreachable,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    NotFound,
    Unavailable,
    VllmdError,
)
from vllmd.v1.engine_pb2 import Engine


@pytest.fixture
def place() -> Iterator[Home]:
    with home("--backend", "fake") as place:
        yield place


@pytest.fixture
def daemon(place: Home) -> RunningDaemon:
    return place.start()


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with Client(str(daemon.socket)) as client:
        yield client


@contextlib.asynccontextmanager
async def asynchronous(daemon: RunningDaemon) -> AsyncIterator[AsyncClient]:
    """An asyncio client; its fixture would be on another loop."""
    async with AsyncClient(str(daemon.socket)) as client:
        yield client


def idle(client: Client, name: str) -> bool:
    """Whether nothing runs on an engine."""
    return client.engine(name).running_count == 0


def test_block_leaves_nothing(client: Client, place: Home) -> None:
    """A model that is used in a block is gone after it, with the proof."""
    phases: list[int] = []
    with client.load("fake", on_progress=lambda progress: phases.append(progress.phase)) as llm:
        streamed = "".join(delta.text for delta in llm.generate("Once upon a time", max_tokens=8))
        whole = llm.complete("Once upon a time", max_tokens=8)
        name = llm.engine.name

    assert streamed == whole.text
    assert whole.usage is not None
    assert whole.usage.completion_tokens == len(whole.token_ids) == 8
    assert (whole.finish_reason, whole.tokens_per_second is not None) == ("length", True)
    assert phases
    assert client.engine(name).state is Engine.STATE_STOPPED
    assert place.leftovers(name) == []


async def test_block_leaves_nothing_with_asyncio(daemon: RunningDaemon, place: Home) -> None:
    """Likewise."""
    async with asynchronous(daemon) as client:
        async with client.load("fake") as llm:
            streamed = [delta.text async for delta in llm.chat("hi", max_tokens=8)]
            whole = await llm.complete([1, 2, 3], max_tokens=8)
        engine = await client.engine(llm.engine.name)

    assert "".join(streamed)
    assert len(whole.token_ids) == 8
    assert engine.state is Engine.STATE_STOPPED
    assert place.leftovers(engine.name) == []


def test_errors_are_typed(client: Client) -> None:
    """By class and reason, with what to do."""
    with pytest.raises(NotFound, match="LEASE_NOT_FOUND"):
        client.release("nowhere")
    with pytest.raises(NotFound, match="ENGINE_NOT_FOUND"):
        list(client.generate("nowhere", "x"))
    with pytest.raises(InvalidRequest, match="ENGINE_ARG_REFUSED"):
        client.load("fake", engine_args={"worker_cls": "evil"})
    with pytest.raises(EngineFailed) as caught:
        client.load("fake", engine_args={"fake_fail_phase": "profiling"})
    assert caught.value.log_lines


def test_unary_call_does_not_notice_a_restart(daemon: RunningDaemon, place: Home, client: Client) -> None:
    """One that comes while there is no daemon waits for the next one; the engine is there as before."""
    with client.load("fake") as llm:
        daemon.kill()
        asked = threading.Event()
        answers: list[Engine] = []

        def ask() -> None:
            asked.set()
            answers.append(client.engine(llm.engine.name))

        asking = threading.Thread(target=ask)
        asking.start()
        assert asked.wait(5)
        place.start()
        asking.join(20)

        assert [engine.state for engine in answers] == [Engine.STATE_READY]
        assert answers[0].adopted
        assert llm.complete("x", max_tokens=2).text  # by the lease, which has outlasted the stream that held it


async def test_unary_call_does_not_notice_a_restart_with_asyncio(daemon: RunningDaemon, place: Home) -> None:
    """Likewise, while other tasks go on."""
    async with asynchronous(daemon) as client, client.load("fake") as llm:
        daemon.kill()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(client.engine(llm.engine.name))
            await asyncio.to_thread(place.start)

        assert asking.result().state is Engine.STATE_READY
        assert (await llm.complete("x", max_tokens=2)).text


def test_held_lease_outlasts_an_upgrade(daemon: RunningDaemon, client: Client) -> None:
    """It is renewed from then on, as it has a minute at the new program; a stream ends with the time to try again."""
    with client.load("fake") as llm:
        assert not llm.lease.HasField("ttl")
        stream = llm.generate("x", max_tokens=4000)
        next(stream)
        daemon.upgrade()

        with pytest.raises(Unavailable):
            list(stream)
        until(lambda: llm.lease.HasField("ttl"), "a renewal of the lease")
        assert llm.lease.ttl.ToTimedelta().total_seconds() == 60
        assert llm.complete("x", max_tokens=2).text
        engine = llm.release()

    assert engine.state is Engine.STATE_STOPPED


async def test_held_lease_outlasts_an_upgrade_with_asyncio(daemon: RunningDaemon) -> None:
    """Likewise."""
    async with asynchronous(daemon) as client, client.load("fake") as llm:
        await asyncio.to_thread(daemon.upgrade)
        async with asyncio.timeout(20):
            while not llm.lease.HasField("ttl"):
                await asyncio.sleep(0.01)
        assert (await llm.complete("x", max_tokens=2)).text


def test_lease_that_is_short_is_renewed_while_it_is_open(client: Client) -> None:
    """And ends by itself once nobody renews it."""

    def use() -> str:
        llm = client.load("fake", lease_ttl=3)
        before = llm.lease.expire_time.ToNanoseconds()
        until(lambda: llm.lease.expire_time.ToNanoseconds() > before, "a renewal")
        assert llm.complete("x", max_tokens=2).text
        return llm.engine.name

    name = use()

    until(lambda: client.engine(name).state is Engine.STATE_STOPPED, "the lease's end")


def test_engine_that_is_stopped_is_told_at_the_next_call(client: Client) -> None:
    """With the reason, and the block ends without another."""
    with client.load("fake") as llm:
        client.stop(llm.engine.name)
        with pytest.raises(VllmdError, match="ENGINE_STOPPED"):
            llm.wait()
        with pytest.raises(VllmdError, match="ENGINE_STOPPED"):
            llm.generate("x")


def test_closed_stream_aborts_the_request(client: Client) -> None:
    """The engine has nothing to do any more."""
    with client.load("fake") as llm:
        with llm.generate("x", max_tokens=4000) as stream:
            next(stream)
            assert not idle(client, llm.engine.name)
        until(lambda: idle(client, llm.engine.name), "the abort")


async def test_cancelled_task_aborts_its_request(daemon: RunningDaemon) -> None:
    """The engine has nothing to do any more, and the connection is as before."""
    async with asynchronous(daemon) as client, client.load("fake") as llm:
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in llm.generate("x", max_tokens=4000):
                begun.set()

        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            await begun.wait()
            assert (await client.engine(llm.engine.name)).running_count == 1
            reading.cancel()
        async with asyncio.timeout(10):
            while (await client.engine(llm.engine.name)).running_count:
                pass
        assert reading.cancelled()
        assert (await llm.complete("x", max_tokens=2)).text


def test_deadline_ends_a_generation(client: Client) -> None:
    """In the engine too."""
    with client.load("fake") as llm:
        with pytest.raises(DeadlineExceeded):
            llm.complete("x", max_tokens=4000, timeout=0.3)
        until(lambda: idle(client, llm.engine.name), "the abort")


def test_dead_daemon(daemon: RunningDaemon) -> None:
    """A client that knew it waits for the next one, as long as it has time; one that did not says so at once."""
    with Client(str(daemon.socket)) as client:
        client.status()
        daemon.kill()
        with pytest.raises(DaemonUnreachable, match=r"waited 0\.\d+ s"):
            client.status(timeout=0.3)
    with Client(str(daemon.socket)) as client, pytest.raises(DaemonUnreachable, match="nobody listens there"):
        client.status()


async def test_dead_daemon_with_asyncio(daemon: RunningDaemon) -> None:
    """Likewise."""
    async with asynchronous(daemon) as client:
        await client.status()
        daemon.kill()
        with pytest.raises(DaemonUnreachable, match=r"waited 0\.\d+ s"):
            await client.status(timeout=0.3)
    async with asynchronous(daemon) as client:
        with pytest.raises(DaemonUnreachable, match="nobody listens there"):
            await client.status()


async def test_both_clients_in_one_process(daemon: RunningDaemon, client: Client) -> None:
    """They share one engine, and it stays until the last lease on it is gone."""
    async with asynchronous(daemon) as other:
        with await asyncio.to_thread(client.load, "fake") as llm:
            async with other.load("fake") as shared:
                assert shared.reused
                assert shared.engine.name == llm.engine.name
                mine, theirs = await asyncio.gather(
                    asyncio.to_thread(llm.complete, "x", max_tokens=4), shared.complete("x", max_tokens=4)
                )
            assert client.engine(llm.engine.name).state is Engine.STATE_READY

    assert mine.text == theirs.text


THREADS = "from vllmd.client import Client\nllm = Client().load('fake')\n"
ASYNCIO = """
import asyncio
from vllmd.client import AsyncClient
async def main():
    global llm
    llm = await AsyncClient().load('fake')
asyncio.run(main())
"""
READY = "print(llm.engine.name, flush=True)\n"


@pytest.mark.parametrize("program", [THREADS, ASYNCIO])
def test_program_that_forgets_its_model_ends_well(daemon: RunningDaemon, client: Client, program: str) -> None:
    """Without a hang or a word on stderr, and its lease ends with it."""
    command = [sys.executable, "-c", program + READY]
    environment = {**os.environ, "VLLMD_ADDRESS": str(daemon.socket)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    until(lambda: client.engine(ended.stdout.strip()).state is Engine.STATE_STOPPED, "the lease's end")


def test_program_that_is_killed_leaves_nothing(daemon: RunningDaemon, client: Client) -> None:
    """The lease ends with the connection."""
    command = [sys.executable, "-c", THREADS + READY + "llm.wait()"]
    environment = {**os.environ, "VLLMD_ADDRESS": str(daemon.socket)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert client.engine(name).lease_count == 1
        process.kill()

    until(lambda: client.engine(name).state is Engine.STATE_STOPPED, "the lease's end")
