from __future__ import annotations

import asyncio

from tests.fakes.fake_daemon import FakeDaemon, Hang
from tests.fakes.host_samples import events
from vllmd.client import AsyncClient


async def test_events_come_one_by_one_with_how_many_did_not(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """The count goes up before the first event that comes after those that were missed."""
    daemon.events = [events(), events(missed=3)]

    async with async_client.events(last=5) as stream:
        seen = [(event.sequence, stream.missed_count) async for event in stream]

    assert seen == [(7, 0), (8, 0), (7, 3), (8, 3)]


async def test_stream_that_is_left_ends_at_once(daemon: FakeDaemon, async_client: AsyncClient) -> None:
    """Also with events that have come and were not taken."""
    daemon.events = [events(), Hang()]

    async with async_client.events(follow=True) as stream:
        await anext(stream)

    assert [event async for event in stream] == []
    assert await asyncio.to_thread(daemon.cancelled.wait, 5)
