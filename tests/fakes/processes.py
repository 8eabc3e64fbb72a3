"""Real processes to be watched and killed, and waiting for what becomes of them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from vllmd.config import Kind
from vllmd.engines.containment import Containment, open_containment
from vllmd.errors import NotPossible
from vllmd.worker.cgroup import remove as remove_cgroup
from vllmd.worker.processes import Identity, hold, marker, processes, read_stat
from vllmd.worker.spec import ENGINE_DIR_VARIABLE, ENGINE_ID_VARIABLE

PROGRAM = pathlib.Path(__file__).with_name("family_program.py")


class Family:
    """A running `family_program`, in a session of its own."""

    def __init__(
        self, role: str, engine_id: str = "", cgroup: pathlib.Path | None = None, directory: pathlib.Path | None = None
    ) -> None:
        environment = {ENGINE_ID_VARIABLE: engine_id} if engine_id else {}
        if directory is not None:
            environment[ENGINE_DIR_VARIABLE] = str(directory)
        self.popen = subprocess.Popen(
            [sys.executable, "-S", str(PROGRAM), role, str(cgroup or "")],
            env=environment,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.members: list[Identity] = []
        """The leader, and the first process below it that is as the role says."""
        try:
            for _ in range(2):
                self.members.append(self.told())
        except BaseException:
            self.popen.kill()
            self.__exit__()
            raise

    @property
    def leader(self) -> Identity:
        """The program itself."""
        return self.members[0]

    @property
    def child(self) -> Identity:
        """The process below it."""
        return self.members[1]

    def told(self) -> Identity:
        """Wait for the next process to tell its pid."""
        assert self.popen.stdout is not None
        stat = read_stat(int(self.popen.stdout.readline()))
        assert stat is not None
        return stat.identity

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            kill(member)
        self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


def kill(identity: Identity) -> None:
    """`kill -9`, if it is still there."""
    fd = hold(identity)
    if fd is not None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)


def lives(identity: Identity) -> bool:
    """Tell whether exactly this process is still there and no zombie."""
    stat = read_stat(identity.pid)
    return stat is not None and stat.identity == identity and not stat.dead


def ends(identity: Identity, seconds: float) -> bool:
    """Wait until a process ends, at most so long; tell whether it did."""
    fd = hold(identity)
    if fd is None:
        return True
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    ended = poller.poll(seconds * 1000)
    os.close(fd)
    return bool(ended)


def processes_of(engine_id: str) -> list[str]:
    """Name the living processes that carry an engine's marker, whatever session or cgroup they are in."""
    return [
        f"{stat.name} {stat.state}"
        for stat in processes()
        if not stat.dead and (marker(stat.identity.pid) or ("",))[0] == engine_id
    ]


def eventually(happens: Callable[[], object], seconds: float = 5.0) -> bool:
    """Look until something has happened that nothing can be waited on for; tell whether it has in time."""
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextlib.contextmanager
def opened_containment(kind: Kind) -> Iterator[Containment]:
    """Containment for one test; where cgroups can't be made a test that wants them is skipped, and says so."""
    try:
        containment = open_containment(f"vllmd-test-{secrets.token_hex(4)}", kind)
    except NotPossible as error:
        pytest.skip(error.message)
    base = containment.path("x")
    try:
        yield containment
    finally:
        for cgroup in base.parent.glob("engine-*/") if base is not None else ():
            (cgroup / "cgroup.kill").write_text("1")
            assert eventually(lambda cgroup=cgroup: remove_cgroup(cgroup))  # type: ignore[misc]
        containment.close()
