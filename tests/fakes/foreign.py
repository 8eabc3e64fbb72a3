"""Another program that uses vLLM, as real processes, and a watchdog that looks at it over fake GPUs."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import pytest

from tests.fakes.held_gpus import HeldGpus
from tests.fakes.processes import ends, eventually, kill
from tests.fakes.rules import live
from vllmd.engines.containment import Containment
from vllmd.events import Event, Events, Kind
from vllmd.gpu.monitor import GpuMonitor, Source
from vllmd.gpu.quarantine import Quarantines
from vllmd.watchdog.scene import Judged
from vllmd.watchdog.verdicts import Policy, Verdict
from vllmd.watchdog.watchdog import Listed, Watchdog
from vllmd.worker.processes import Identity, Stat, read_stat

PROGRAM = pathlib.Path(__file__).with_name("foreign_program.py")
DEADLINE_SECONDS = 20.0


class Foreign:
    """A running `foreign_program`, in a session of its own; whoever of it is left in the end is killed.

    Args:
        role: see there.
        directory: where it listens.
        name: of its socket; what vLLM would call it, unless given.
        prefix: what it is run under, such as `unshare`.
        client_name: what the client is called.
        user: the id of whom it becomes; nobody else, if empty.
        tcp: listens on loopback instead.
    """

    def __init__(
        self,
        role: str,
        directory: pathlib.Path,
        name: str = "",
        prefix: Sequence[str] = (),
        client_name: str = "",
        user: str = "",
        tcp: bool = False,
    ) -> None:
        path = "tcp" if tcp else directory / (name or str(uuid.uuid4()))
        self.popen = subprocess.Popen(
            [*prefix, sys.executable, "-S", str(PROGRAM), role, str(path), client_name, user],
            env={},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.members: dict[str, Identity] = {}
        try:
            expected = {"shared": 4, "group": 5}.get(role, 3)
            assert self.popen.stdout is not None
            while len(self.members) < expected:
                member, pid = self.popen.stdout.readline().split()
                self.members[member.decode()] = stat_of(self._outer(int(pid))).identity
        except BaseException:
            self.popen.kill()
            self.__exit__()
            raise

    def _outer(self, pid: int) -> int:
        """Find a process by what it calls itself: in a pid namespace of its own that is not what we call it."""
        if os.path.basename(str(self.popen.args[0])) != "unshare":  # type: ignore[index]
            return pid
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                lines = status.read_text().splitlines()
                stat = read_stat(int(status.parent.name))
            except OSError:
                continue
            pids = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
            if len(pids) > 1 and int(pids[-1]) == pid and stat is not None and stat.session == self.popen.pid:
                return int(status.parent.name)
        raise AssertionError(f"no process is {pid} inside")

    @property
    def launcher(self) -> Identity:
        return self.members["launcher"]

    @property
    def core(self) -> Identity:
        return self.members["core"]

    @property
    def worker(self) -> Identity:
        return self.members["worker"]

    @property
    def client(self) -> Identity:
        return self.members["client"]

    def lose_launcher(self) -> None:
        """`kill -9` of the launcher, and wait until the core has been adopted."""
        kill(self.launcher)
        self.popen.wait()
        assert eventually(lambda: stat_of(self.core.pid).parent_pid != self.launcher.pid)

    def leave_to_pid_1(self) -> None:
        """As `lose_launcher`; skips the test where a subreaper adopts orphans, or pid 1 is in the orphan's session."""
        self.lose_launcher()
        core, first = stat_of(self.core.pid), stat_of(1)
        if core.parent_pid != 1 or core.session == first.session:
            pytest.skip("orphans are adopted by somebody else than pid 1 here")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members.values():
            kill(member)
            ends(member, 5.0)
        self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


def stat_of(pid: int) -> Stat:
    """Read a process that is there."""
    stat = read_stat(pid)
    assert stat is not None, pid
    return stat


class Watched:
    """A watchdog over two fake GPUs, whose clock a test turns."""

    def __init__(
        self,
        root: pathlib.Path,
        containment: Containment | None = None,
        living: Callable[[], frozenset[str]] = frozenset,
        busy: Callable[[], frozenset[str]] = frozenset,
        source: Source | None = None,
        policy: Policy = "kill",
        interval: float = 1.0,
        timeout: float = 5.0,
        **options: Any,
    ) -> None:
        self.now = 1000.0
        self.gpus = HeldGpus()
        self.monitor = GpuMonitor(source or self.gpus)
        self.events = Events()
        self.quarantines = Quarantines(self.events)
        self.live = live(foreign_orphans=policy, watchdog_interval=interval, reclaim_timeout=timeout)
        self.dog = Watchdog(
            monitor=self.monitor,
            events=self.events,
            quarantines=self.quarantines,
            root=root,
            containment=containment or Containment(None),
            living=living,
            busy=busy,
            clock=lambda: self.now,
            live=self.live,
            **options,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dog.close()
        self.monitor.close()

    async def pass_by(self, seconds: float) -> None:
        """Look, let time pass, and look again."""
        await self.dog.round()
        self.now += seconds
        await self.dog.round()

    async def listed(self, identity: Identity) -> Listed:
        """Look at one process."""
        return next(one for one in await self.dog.processes() if one.judged.pid == identity.pid)

    async def judged(self, identity: Identity) -> Judged:
        return (await self.listed(identity)).judged

    async def verdict(self, identity: Identity) -> Verdict:
        return (await self.judged(identity)).judgement.verdict

    def told(self, kind: Kind) -> list[Event]:
        """The events of one kind."""
        return [event for event in self.events.after(0)[0] if event.kind is kind]

    async def tells(self, kind: Kind, count: int = 1) -> list[Event]:
        """Wait until there are so many events of a kind."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.told(kind)) < count:
                await self.events.changed.wait()
        return self.told(kind)


def send(identity: Identity, signum: signal.Signals) -> None:
    """Signal a process of a test."""
    os.kill(identity.pid, signum)
