from __future__ import annotations

import asyncio
import logging

import pytest

from vllmd import events
from vllmd.events import Events, Kind


def test_an_event_is_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With its reasons, and with whom it is about in a form that can be searched for."""
    with caplog.at_level(logging.INFO):
        Events().record(
            Kind.KILL, "Killed 2 processes.", reasons=["its daemon is gone"], engine="e-1", gpus=["GPU-a"], pids=[7, 8]
        )
        Events().record(Kind.ENGINE, "STARTING -> READY")

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages == [
        "KILL: Killed 2 processes. because its daemon is gone engine=e-1 gpus=GPU-a pids=7,8",
        "ENGINE: STARTING -> READY",
    ]


def test_events_are_numbered_and_read_from_where_one_was() -> None:
    """A reader goes on after the last one it has seen."""
    log = Events(clock=lambda: 12.5)
    written = [log.record(Kind.DAEMON, f"event {number}", number=number) for number in range(5)]

    assert [event.sequence for event in written] == [1, 2, 3, 4, 5]
    assert log.last == 5
    assert log.after(3) == (written[3:], 0)
    assert log.after(5) == ([], 0)
    assert written[0].time == 12.5
    assert written[4].metadata == (("number", "4"),)


def test_who_reads_too_slowly_is_told_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are dropped, never the newest."""
    monkeypatch.setattr(events, "KEPT", 3)
    log = Events()
    written = [log.record(Kind.DAEMON, str(number)) for number in range(10)]

    assert log.after(2) == (written[7:], 5)
    assert log.after(8) == (written[8:], 0)


async def test_a_new_event_wakes_who_waits() -> None:
    """Nobody has to look again and again."""
    log = Events()
    asyncio.get_running_loop().call_soon(log.record, Kind.DAEMON, "something")

    assert await log.changed.wait(20)


def test_an_event_has_fields_to_search_by(caplog: pytest.LogCaptureFixture) -> None:
    """Those of the journal; what it is not about is left out."""
    log = Events()
    with caplog.at_level(logging.INFO):
        about = log.record(Kind.RECLAIM, "Gone.", engine="e-1", gpus=["GPU-a", "GPU-b"], model="its/model")
        log.record(Kind.DAEMON, "Ready.")
    first, second = caplog.records

    assert about.fields() == {"EVENT": "RECLAIM", "ENGINE": "e-1", "GPU": "GPU-a,GPU-b", "MODEL": "its/model"}
    assert about.fields().items() <= vars(first).items()
    assert not {"ENGINE", "GPU", "MODEL"} & vars(second).keys()


def test_a_lease_is_logged_by_a_digest() -> None:
    """Whoever reads the journal can follow it, and can't use it."""
    fields = events.log_fields(ENGINE="e-1", MODEL="", LEASE="0123456789abcdef")

    assert fields == {"ENGINE": "e-1", "LEASE": "9f9f5111f7b2"}


def test_the_newest_event_is_at_hand() -> None:
    """For whoever shows one."""
    log = Events()
    before = log.newest
    log.record(Kind.DAEMON, "one")
    two = log.record(Kind.DAEMON, "two")

    assert before is None
    assert log.newest is two
