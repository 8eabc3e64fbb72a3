from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.fakes.processes import Family, kill
from vllmd.engines.process import EngineProcess
from vllmd.engines.tree_watch import TreeWatch
from vllmd.worker.tree import Tree


@pytest.fixture
def family(engine_id: str) -> Iterator[Family]:
    """A worker with an EngineCore below it."""
    with Family("named", engine_id) as made:
        yield made


class Told:
    """What a watch said."""

    def __init__(self) -> None:
        self.worker: list[str] = []
        self.parts: list[str] = []
        self.something = asyncio.Event()

    def note(self, where: list[str]) -> Callable[[str], None]:
        """Make a callback that writes down what it is told."""

        def told(what: str) -> None:
            where.append(what)
            self.something.set()

        return told


def watch(family: Family, engine_id: str, told: Told, popen: subprocess.Popen[bytes] | None = None) -> TreeWatch:
    """Watch a family."""
    process = EngineProcess(popen or family.popen, Tree(engine_id, family.leader, None))
    return TreeWatch(process, told.note(told.worker), told.note(told.parts))


async def test_how_the_worker_ended_is_told(family: Family, engine_id: str) -> None:
    """Once, and with the signal."""
    told = Told()
    watching = watch(family, engine_id, told)
    kill(family.leader)
    await asyncio.wait_for(told.something.wait(), 5)
    watching.close()

    assert (told.worker, told.parts) == (["was killed by signal 9"], [])


async def test_what_else_ended_is_told_by_name(family: Family, engine_id: str) -> None:
    """Only what vLLM named is watched, and all of the tree is remembered."""
    told = Told()
    watching = watch(family, engine_id, told)
    await watching.watch_parts()
    kill(family.child)
    await asyncio.wait_for(told.something.wait(), 5)
    watching.close()

    assert (told.worker, told.parts) == ([], [f"VLLM::EngineCor (pid {family.child.pid}) is gone"])
    assert watching.seen == set(family.members)


async def test_a_part_that_goes_with_its_worker_is_not_told(family: Family, engine_id: str) -> None:
    """Although it ends first: how the worker ended is what counts."""
    told = Told()
    watching = watch(family, engine_id, told)
    await watching.watch_parts()
    kill(family.child)
    kill(family.leader)
    await asyncio.wait_for(told.something.wait(), 5)
    watching.close()

    assert (told.worker, told.parts) == (["was killed by signal 9"], [])


async def test_nothing_is_told_after_the_end_of_a_watch(family: Family, engine_id: str) -> None:
    """What dies then is somebody else's business."""
    told = Told()
    watching = watch(family, engine_id, told)
    await watching.watch_parts()
    watching.close()
    kill(family.leader)
    kill(family.child)
    await asyncio.to_thread(family.popen.wait)
    await asyncio.sleep(0)

    assert (told.worker, told.parts) == ([], [])
