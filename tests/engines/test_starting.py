from __future__ import annotations

import asyncio
import pathlib

import pytest

from tests.fakes.link_worker import HELLO
from vllmd.engines.link import Link
from vllmd.engines.progress import LoadProgress, Phase
from vllmd.engines.starting import StartFailed, follow, reported_errors
from vllmd.errors import Unavailable
from vllmd.tasks import Signal, spawn
from vllmd.worker import protocol
from vllmd.worker.spec import LINK, LOG, Progress, append_progress

LISTENING = Progress("listening", 42)


class Start:
    """A start that is followed, and what is told of it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.told: list[LoadProgress] = []
        self.closed: list[str] = []
        self._news = Signal()
        self.following = spawn("follow", self._follow())

    async def _follow(self) -> Link:
        async with asyncio.timeout(10):
            return await follow(self.directory, self._tell, self.closed.append)

    def _tell(self, progress: LoadProgress) -> None:
        self.told.append(progress)
        self._news.notify()

    async def until(self, phase: Phase) -> LoadProgress:
        """Wait until the start has come so far."""
        async with asyncio.timeout(10):
            while not self.told or self.told[-1].phase < phase:
                await self._news.wait()
        return self.told[-1]


def log(directory: pathlib.Path, text: str) -> None:
    """Let the tree print something."""
    with (directory / LOG).open("a") as file:
        file.write(text)


async def serve(directory: pathlib.Path, first: bytes) -> asyncio.Server:
    """A worker that says *first* to whoever connects."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await reader.read()
        writer.close()

    return await asyncio.start_unix_server(speak, directory / LINK)


async def test_start_is_followed_from_the_spawn_to_the_link(runtime: pathlib.Path) -> None:
    """What the worker tells and what vLLM prints make one progress, and its end is a connection."""
    start = Start(runtime)
    first = await start.until(Phase.SPAWNING)
    append_progress(runtime, Progress("started", 42, 1))
    append_progress(runtime, Progress("importing", 42))
    importing = await start.until(Phase.IMPORTING)
    log(runtime, "Loading safetensors checkpoint shards:  50% Completed | 1/2\r")
    loading = await start.until(Phase.LOADING_WEIGHTS)
    async with await serve(runtime, protocol.frame(HELLO)):
        append_progress(runtime, LISTENING)
        link = await start.following
        link.close(Unavailable("", ""))

    assert first == LoadProgress(Phase.SPAWNING, None, "starting processes")
    assert importing.message == "importing vLLM"
    assert loading == LoadProgress(Phase.LOADING_WEIGHTS, 0.5, "loading weights 1/2")
    assert link.hello == HELLO
    assert Phase.DONE not in [progress.phase for progress in start.told]


async def test_start_that_the_worker_gives_up_fails_with_its_errors(runtime: pathlib.Path) -> None:
    """Nobody waits for it to end."""
    append_progress(runtime, Progress("started", 42, 1))
    append_progress(runtime, Progress("failed", 42, errors=("RuntimeError: a", "ValueError: b")))

    with pytest.raises(StartFailed) as failed:
        await Start(runtime).following
    assert failed.value.errors == ("RuntimeError: a", "ValueError: b")
    assert reported_errors(runtime) == ("RuntimeError: a", "ValueError: b")


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (None, "FileNotFoundError: "),
        (b"\xff\xff\xff\xff", "ProtocolError: frame of 4294967295 bytes"),
        (b"\0\0\0\1\xc1", "ProtocolError: the worker's hello makes no sense"),
    ],
)
async def test_worker_that_can_not_be_talked_to_fails_the_start(
    runtime: pathlib.Path, first: bytes | None, error: str
) -> None:
    """It says that it listens, and then does not, or not to us."""
    server = None if first is None else await serve(runtime, first)
    append_progress(runtime, LISTENING)

    with pytest.raises(StartFailed) as failed:
        await Start(runtime).following
    assert failed.value.errors[0].startswith(error)
    if server is not None:
        server.close()


def test_worker_that_could_not_say_why_has_no_errors(runtime: pathlib.Path) -> None:
    """It was killed, or did not even begin."""
    before = reported_errors(runtime)
    append_progress(runtime, Progress("started", 42, 1))

    assert (before, reported_errors(runtime)) == ((), ())
