from __future__ import annotations

import asyncio
import dataclasses
import pathlib

from tests.fakes.foreign import Foreign, stat_of
from tests.fakes.processes import ends, kill
from vllmd.watchdog.parents import Fate, Parents
from vllmd.worker.processes import Identity


async def test_a_death_that_was_seen_is_told_and_remembered(runtime: pathlib.Path) -> None:
    """Whoever is asked later knows: it was alive, and it died."""
    died = asyncio.Event()
    parents = Parents(died.set)
    with Foreign("serving", runtime) as foreign:
        parents.watch([stat_of(foreign.core.pid)])
        before = parents.fate(foreign.core)
        name = stat_of(foreign.launcher.pid).name
        foreign.lose_launcher()
        async with asyncio.timeout(10):
            await died.wait()
        parents.watch([stat_of(foreign.core.pid)])

        assert before == Fate(foreign.launcher, name, alive=True)
        assert parents.fate(foreign.core) == Fate(foreign.launcher, name, alive=False)
    parents.close()


async def test_a_death_is_known_before_the_loop_comes_round(runtime: pathlib.Path) -> None:
    """The descriptor says so at once."""
    parents = Parents(lambda: None)
    with Foreign("serving", runtime) as foreign:
        parents.watch([stat_of(foreign.core.pid)])
        foreign.lose_launcher()
        fate = parents.fate(foreign.core)
        parents.close()

        assert fate is not None
        assert not fate.alive


async def test_who_was_adopted_before_has_no_fate(runtime: pathlib.Path) -> None:
    """Of a parent that nobody saw alive nothing can be said."""
    parents = Parents(lambda: None)
    with Foreign("serving", runtime) as foreign:
        foreign.leave_to_pid_1()
        parents.watch([stat_of(foreign.core.pid)])

        assert parents.fate(foreign.core) is None


async def test_who_was_adopted_between_two_looks_has_no_fate(runtime: pathlib.Path) -> None:
    """The list may be old: only who is the parent still while it is held was seen as one."""
    parents = Parents(lambda: None)
    with Foreign("serving", runtime) as foreign, Foreign("serving", runtime) as other:
        wrong_parent = dataclasses.replace(stat_of(foreign.core.pid), parent_pid=other.launcher.pid)
        recycled = dataclasses.replace(stat_of(other.core.pid), identity=Identity(other.core.pid, 1))
        parents.watch([wrong_parent, recycled])

        assert parents.fate(wrong_parent.identity) is None
        assert parents.fate(recycled.identity) is None


async def test_who_is_gone_is_forgotten(runtime: pathlib.Path) -> None:
    """With its descriptor, and without a word."""
    died = asyncio.Event()
    parents = Parents(died.set)
    with Foreign("serving", runtime) as foreign:
        parents.watch([stat_of(foreign.core.pid), stat_of(foreign.worker.pid)])
        parents.watch([stat_of(foreign.core.pid)])
        kill(foreign.core)
        assert ends(foreign.core, 5.0)

        assert parents.fate(foreign.worker) is None
        assert parents.fate(foreign.core) is not None
    parents.close()
    assert parents.fate(foreign.core) is None
    await asyncio.sleep(0)
    assert not died.is_set()
