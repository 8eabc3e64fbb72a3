"""Follows the start of an engine through the files of its directory, until its worker can be talked to."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Callable

from vllmd.engines import greeting, logs
from vllmd.engines.link import Link
from vllmd.engines.progress import LoadProgress, Phase, advance
from vllmd.worker.causes import named
from vllmd.worker.protocol import ProtocolError
from vllmd.worker.spec import LINK, LOG, read_progress

_LOOK_SECONDS = 0.1


class StartFailed(Exception):
    """The worker says that the engine can't be started; *errors* are what it raised, outermost first."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__(*errors)
        self.errors = errors


async def follow(
    directory: pathlib.Path, advanced: Callable[[LoadProgress], None], closed: Callable[[str], None]
) -> Link:
    """Report the progress until the worker listens, then connect to it.

    Raises:
        StartFailed: the worker gave up, or does not speak as it should.
    """
    reader = logs.Reader(directory / LOG)
    progress = LoadProgress(Phase.SPAWNING, message="starting processes")
    seen = 0
    while True:
        events = read_progress(directory)[seen:]
        lines = reader.lines()
        seen += len(events)
        if failed := next((event for event in events if event.event == "failed"), None):
            raise StartFailed(failed.errors)
        progress = advance(progress, events, lines)
        if progress.phase is Phase.DONE:
            break
        advanced(progress)
        await asyncio.sleep(_LOOK_SECONDS)
    try:
        return await greeting.connect(directory / LINK, closed)
    except (OSError, ProtocolError) as error:
        raise StartFailed((named(error),)) from error


def reported_errors(directory: pathlib.Path) -> tuple[str, ...]:
    """Read what the worker said of a failure; nothing if it could not."""
    return next((event.errors for event in read_progress(directory) if event.event == "failed"), ())
