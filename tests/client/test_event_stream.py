from __future__ import annotations

from tests.fakes.fake_daemon import FakeDaemon, Hang
from tests.fakes.host_samples import events
from vllmd.client import Client


def test_events_come_one_by_one_with_how_many_did_not(daemon: FakeDaemon, client: Client) -> None:
    """The count goes up before the first event that comes after those that were missed."""
    daemon.events = [events(), events(missed=3), events(missed=1)]

    with client.events(last=5) as stream:
        seen = [(event.sequence, stream.missed_count) for event in stream]

    assert seen == [(7, 0), (8, 0), (7, 3), (8, 3), (7, 4), (8, 4)]


def test_stream_that_is_left_ends_at_once(daemon: FakeDaemon, client: Client) -> None:
    """Also with events that have come and were not taken."""
    daemon.events = [events(), Hang()]

    with client.events(follow=True) as stream:
        next(stream)

    assert list(stream) == []
    assert daemon.cancelled.wait(5)


def test_stream_that_nobody_refers_to_is_cancelled(daemon: FakeDaemon, client: Client) -> None:
    """A loop that is left by `break` leaves no call behind."""
    daemon.events = [events(), Hang()]
    for _ in client.events(follow=True):
        assert daemon.arrived.acquire(timeout=5)
        break

    assert daemon.cancelled.wait(5)
