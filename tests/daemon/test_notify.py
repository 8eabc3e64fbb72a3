"""What a service manager hears, on a real socket of its kind."""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import secrets
import socket
from collections.abc import Iterator

import pytest

from vllmd.daemon import notify
from vllmd.daemon.notify import Notifier, watchdog_seconds


class Manager:
    """The end of the socket that the service manager has."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind("\0" + address[1:] if address.startswith("@") else address)
        self._end.setblocking(False)

    def heard(self) -> list[str]:
        """All that was said since the last time."""
        messages = []
        while True:
            try:
                messages.append(self._end.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        """Hear no more."""
        self._end.close()


@pytest.fixture(params=["/", "@"], ids=["path", "abstract"])
def manager(request: pytest.FixtureRequest, runtime: pathlib.Path) -> Iterator[Manager]:
    """A manager with a socket of either kind."""
    address = str(runtime / "notify") if request.param == "/" else f"@vllmd-test-{secrets.token_hex(4)}"
    made = Manager(address)
    yield made
    made.close()


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_tells_when_it_serves_and_when_it_leaves(manager: Manager) -> None:
    """Each at once; without a watchdog there is nothing to feed."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    notifier.ready()
    notifier.pulse("no engines")
    notifier.stopping()

    assert manager.heard() == [
        "READY=1",
        "STATUS=no engines",
        "STOPPING=1",
        "STATUS=Stopping: running generations may finish.",
    ]


def test_the_watchdog_is_fed_at_half_of_its_time(manager: Manager) -> None:
    """However often the loop comes round."""
    clock = Clock()
    usec = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier({"NOTIFY_SOCKET": manager.address} | usec, clock)
    fed = []
    for _ in range(7):
        notifier.pulse("")
        fed.append("WATCHDOG=1" in manager.heard())
        clock.now += 0.5

    assert fed == [True, False, False, True, False, False, True]


def test_a_status_is_told_when_it_changes_and_not_too_often(manager: Manager) -> None:
    """The last one is told in the end, in a single line."""
    clock = Clock()
    notifier = Notifier({"NOTIFY_SOCKET": manager.address}, clock)
    heard = []
    for seconds, status in ((0.0, "a"), (5.0, "a"), (0.1, "b"), (0.2, "c"), (0.3, "d"), (1.0, "d\nREADY=1")):
        clock.now += seconds
        notifier.pulse(status)
        heard.append(manager.heard())

    assert heard == [["STATUS=a"], [], ["STATUS=b"], [], [], ["STATUS=d READY=1"]]


def test_a_reload_is_told_from_beginning_to_end(manager: Manager) -> None:
    """With the time, by which systemd tells it from an earlier one; also if it fails."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    with pytest.raises(ValueError, match="no such key"), notifier.reloading():
        raise ValueError("no such key")
    begin, end = manager.heard()

    assert begin.splitlines()[0] == "RELOADING=1"
    assert int(begin.splitlines()[1].removeprefix("MONOTONIC_USEC=")) > 0
    assert end == "READY=1"


def test_an_upgrade_is_a_reload_that_the_next_program_ends(manager: Manager) -> None:
    """It has the same environment, and so the same socket."""
    Notifier({"NOTIFY_SOCKET": manager.address}).executing()
    Notifier({"NOTIFY_SOCKET": manager.address}).ready()
    begin, status, end = manager.heard()

    assert begin.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert status == "STATUS=Executing the new program; engines stay."
    assert end == "READY=1"


async def test_what_takes_long_asks_for_time_and_proves_to_be_alive(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again, and not any more once it is done."""
    monkeypatch.setattr(notify, "_EXTEND_EVERY_SECONDS", 0.01)
    notifier = Notifier({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000"})
    heard: list[str] = []
    async with asyncio.timeout(20), notifier.extending():
        while len(heard) < 3:
            await asyncio.sleep(0.01)
            heard += manager.heard()
    await asyncio.sleep(0)
    manager.heard()
    await asyncio.sleep(0.05)

    assert set(heard) == {"EXTEND_TIMEOUT_USEC=30000000\nWATCHDOG=1"}
    assert manager.heard() == []


def test_without_a_manager_nothing_is_told() -> None:
    """As in a terminal, or where the address is of a kind that is not known."""
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        notifier = Notifier(environment)
        notifier.ready()
        notifier.pulse("no engines")
        notifier.stopping()


def test_a_manager_that_is_gone_is_told_once(runtime: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon goes on without it, and tells again when it was there in between."""
    address = str(runtime / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": address})
    with caplog.at_level(logging.WARNING):
        notifier.ready()
        notifier.ready()
        manager = Manager(address)
        notifier.ready()
        manager.close()
        notifier.ready()

    assert caplog.messages == [
        "systemd can't be told anything: [Errno 2] No such file or directory",
        "systemd can't be told anything: [Errno 111] Connection refused",
    ]


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
    ],
)
def test_only_who_is_watched_has_a_watchdog(environment: dict[str, str], seconds: float | None) -> None:
    """A child may have inherited the variables."""
    assert watchdog_seconds(environment) == seconds
