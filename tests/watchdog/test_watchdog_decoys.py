"""Processes that look like orphans and are not: none of them may be touched, whatever time passes."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.fakes.foreign import Foreign, Watched, send, stat_of
from tests.fakes.processes import Family, eventually, lives
from vllmd.events import Kind
from vllmd.watchdog.verdicts import Verdict

YEARS = 1e8


async def left_alone(watched: Watched, foreign: Foreign, reason: str) -> None:
    """Let years pass, and check that a core is a suspect for a reason, and lives as it lived."""
    await watched.pass_by(YEARS)
    await watched.pass_by(YEARS)
    judgement = (await watched.judged(foreign.core)).judgement
    killed = {pid for event in watched.told(Kind.KILL) for pid in event.pids}

    assert judgement.verdict is Verdict.SUSPECT
    assert reason in judgement.reasons[0]
    assert not killed & {member.pid for member in foreign.members.values()}
    assert all(stat_of(one.pid).state not in "Tt" for one in (foreign.core, foreign.worker))


async def test_same_name_with_a_living_parent(runtime: pathlib.Path) -> None:
    """Somebody's `vllm serve`."""
    async with Watched(runtime) as watched:
        with Foreign("serving", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)

            await left_alone(watched, foreign, f"its parent (pid {foreign.launcher.pid}, ")


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode != 0,
    reason="no pid namespace can be made here without being root",
)
async def test_child_of_pid_1_in_a_pid_namespace_of_its_own(runtime: pathlib.Path) -> None:
    """A container whose program is its first process."""
    async with Watched(runtime) as watched:
        with Foreign("serving", runtime, prefix=["unshare", "--pid", "--fork", "--kill-child"]) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)

            await left_alone(watched, foreign, "it is in another pid namespace")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start something as somebody else")
async def test_another_users_session(runtime: pathlib.Path) -> None:
    """Who may signal everybody does not, for that."""
    runtime.chmod(0o777)
    async with Watched(runtime) as watched:
        with Foreign("serving", runtime, user="65534") as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)

            await left_alone(watched, foreign, f"its parent (pid {foreign.launcher.pid}, ")
            assert (await watched.judged(foreign.core)).uid == 65534


async def test_daemonized_on_purpose_before_anybody_looked(runtime: pathlib.Path) -> None:
    """Its parent is pid 1, and its client is somewhere else, in a session of its own."""
    with Foreign("shared", runtime, name="any.sock") as foreign:
        foreign.leave_to_pid_1()
        async with Watched(runtime) as watched:
            watched.gpus.hold("GPU-0", foreign.worker)

            await left_alone(watched, foreign, f"is a reaper, but pid {foreign.client.pid} (")


async def test_daemonized_on_purpose_while_we_look(runtime: pathlib.Path) -> None:
    """Its parent was seen to die, and still it serves somebody."""
    async with Watched(runtime) as watched:
        with Foreign("shared", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            await watched.dog.round()
            foreign.lose_launcher()

            await left_alone(watched, foreign, f"has died, but pid {foreign.client.pid} (")


async def test_used_over_tcp(runtime: pathlib.Path) -> None:
    """As cores of several hosts are, and those of a data-parallel engine: who is at the other end is found here."""
    async with Watched(runtime) as watched:
        with Foreign("shared", runtime, tcp=True) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            await watched.dog.round()
            foreign.lose_launcher()
            client = f"pid {foreign.client.pid} ({stat_of(foreign.client.pid).name})"

            await left_alone(watched, foreign, f"has died, but {client} holds the other end of its TCP sockets")


async def test_another_program_of_any_name(runtime: pathlib.Path) -> None:
    """With memory on a GPU, adopted by pid 1, and used by nobody: it is foreign, and no more."""
    async with Watched(runtime) as watched:
        with Family("escaping") as family:
            watched.gpus.hold("GPU-0", family.child)
            send(family.leader, signal.SIGKILL)
            family.popen.wait()
            await watched.pass_by(YEARS)
            await watched.pass_by(YEARS)

            assert await watched.verdict(family.child) is Verdict.FOREIGN
            assert lives(family.child)


async def test_another_daemons_engine(engine_id: str, runtime: pathlib.Path) -> None:
    """Our marker with a directory that is not below ours is that of somebody else's engine."""
    async with Watched(runtime / "ours") as watched:
        with Family("named", engine_id, directory=runtime / "theirs" / engine_id) as family:
            watched.gpus.hold("GPU-0", family.child)
            await watched.pass_by(YEARS)

            assert await watched.verdict(family.child) is Verdict.SUSPECT
            assert all(lives(member) for member in family.members)


async def test_a_pid_that_is_somebody_elses_by_now(runtime: pathlib.Path) -> None:
    """NVML may list a process that has gone, whose pid another one has."""
    async with Watched(runtime) as watched:
        with Family("calm") as family:
            watched.gpus.hold("GPU-0", family.child)
            await watched.pass_by(YEARS)

            assert await watched.verdict(family.child) is Verdict.FOREIGN
            assert lives(family.child)


async def test_who_becomes_somebody_else_between_the_verdict_and_the_signal(runtime: pathlib.Path) -> None:
    """It was an orphan when that was decided; when it is to be killed it has another name."""
    after_the_verdict: list[Callable[[], None]] = []

    def busy() -> frozenset[str]:
        for happen in after_the_verdict:
            happen()
        return frozenset()

    async with Watched(runtime, busy=busy) as watched:
        with Foreign("renaming", runtime) as foreign:
            watched.gpus.hold("GPU-0", foreign.worker)
            await watched.dog.round()
            foreign.lose_launcher()
            await watched.dog.round()
            watched.now += 10.0

            def become_somebody_else() -> None:
                send(foreign.core, signal.SIGUSR1)
                assert eventually(lambda: stat_of(foreign.core.pid).name == "somebody-else")
                after_the_verdict.clear()

            after_the_verdict.append(become_somebody_else)
            await watched.dog.round()
            (reclaim,) = await watched.tells(Kind.RECLAIM)

            assert reclaim.message.startswith("Left alone")
            assert watched.told(Kind.KILL) == []
            assert stat_of(foreign.core.pid).state not in "Tt"
            assert lives(foreign.worker)
