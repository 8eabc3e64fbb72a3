from __future__ import annotations

import asyncio

import pytest

from tests.fakes.host import DEADLINE_SECONDS, Host, finish, until, wish
from vllmd.api import board
from vllmd.api.board import Board
from vllmd.api.changes import News, news
from vllmd.scheduler.entry import Entry
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1.engine_pb2 import Engine
from vllmd.worker.protocol import TextPrompt


def shown(of: Board) -> list[Engine]:
    """All engines, as a new reader gets them."""
    return [engine for response in of.responses(news({}, of.marks, of.beat)) for engine in response.engines]


async def test_who_begins_to_watch_sees_what_there_is_now() -> None:
    """Nothing is kept from before, when nobody did."""
    async with Host() as host:
        watched = Board(host.scheduler)
        with watched.watched():
            before = shown(watched)
        entry, _ = await host.load(wish())
        with watched.watched():
            now = shown(watched)
            host.scheduler.leases.grant("l", entry.supervisor.id, 60.0, 0.0)
            with watched.watched():
                later = shown(watched)

        assert before == []
        assert [(engine.state, engine.lease_count) for engine in now] == [(Engine.STATE_READY, 1)]
        assert later[0].lease_count == 2


async def test_a_change_is_seen_by_all_and_made_into_a_proto_once() -> None:
    """However many look; what did not change is not made again."""
    async with Host() as host:
        watched = Board(host.scheduler)
        entries = [(await host.load(wish(f"fake/{number}")))[0] for number in range(3)]
        ended = entries[0].supervisor
        await host.scheduler.stop(ended.id, True, "a test stops it")
        with watched.watched(), watched.watched():
            made = watched.made
            version = watched.marks[entries[1].supervisor.id].version
            host.scheduler.leases.grant("l", entries[1].supervisor.id, 60.0, 0.0)
            watched.look()
            changed = watched.made, watched.marks[entries[1].supervisor.id].version
            watched.look(beats=True)
            at_beat = watched.made

        assert made == 3
        assert changed == (4, version + 1)
        assert at_beat == 6


async def test_it_looks_by_itself_while_anybody_watches() -> None:
    """For what tells of no change, and for figures."""
    async with Host() as host:
        watched = Board(host.scheduler)
        entry, _ = await host.load(wish())
        with watched.watched():
            version, beat = watched.marks[entry.supervisor.id].version, watched.beat
            host.scheduler.leases.grant("l", entry.supervisor.id, 60.0, 0.0)
            await until(watched.changed, lambda: watched.marks[entry.supervisor.id].version > version)
            await until(watched.changed, lambda: watched.beat > beat)


async def test_figures_are_no_new_version() -> None:
    """They count up at beats, for as long as there are any."""
    async with Host() as host:
        watched = Board(host.scheduler)
        entry, lease = await host.load(wish(fake_tokens_per_second=0))
        key = entry.supervisor.id
        with watched.watched():
            before = watched.marks[key]
            with host.scheduler.generating(lease.id, "", TextPrompt("a"), {"max_tokens": 50}) as stream:
                watched.look()
                during = watched.marks[key]
                await finish(stream)
                watched.look(beats=True)
                busy = watched.marks[key]
            watched.look(beats=True)
            after = watched.marks[key]
            watched.look(beats=True)
            idle = watched.marks[key]

        assert during == before
        assert (busy.version, busy.busy) == (before.version, True)
        assert busy.count > before.count
        assert (after.version, after.busy) == (before.version, False)
        assert idle == after


async def test_an_engine_that_is_not_listed_any_more_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who has it is told so."""
    monkeypatch.setattr("vllmd.scheduler.placement.KEPT_ENDED", 0)
    async with Host() as host:
        watched = Board(host.scheduler)
        first, _ = await host.load(wish("fake/a"))
        await host.scheduler.stop(first.supervisor.id, True, "a test stops it")
        with watched.watched():
            before = watched.marks
            await host.load(wish("fake/b"))
            watched.look()

            assert first.supervisor.id in before
            assert first.supervisor.id not in watched.marks


async def test_who_has_the_same_news_gets_the_same_response() -> None:
    """Until something changes."""
    async with Host() as host:
        watched = Board(host.scheduler)
        entry, _ = await host.load(wish())
        same = News((entry.supervisor.id,), ("gone",))
        with watched.watched():
            first, second = watched.responses(same), watched.responses(same)
            host.scheduler.leases.grant("l", entry.supervisor.id, 60.0, 0.0)
            watched.look()
            third = watched.responses(same)

        assert first is second
        assert list(first[0].forgotten_engines) == ["engines/gone"]
        assert third[0].engines[0].lease_count == first[0].engines[0].lease_count + 1


async def test_much_to_tell_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients take messages of 4 MiB, and no engine is longer than that."""
    monkeypatch.setattr(board, "_RESPONSE_BYTES", 1000)
    async with Host() as host:
        watched = Board(host.scheduler)
        entries = [(await host.load(wish(f"fake/{number}")))[0] for number in range(5)]
        with watched.watched():
            responses = watched.responses(news({}, watched.marks, watched.beat))

        names = [engine.name for response in responses for engine in response.engines]
        assert names == [f"engines/{entry.supervisor.id}" for entry in reversed(entries)]
        assert all(len(response.engines) < 5 for response in responses)
        assert all(response.engines for response in responses)


async def test_a_look_that_fails_is_told_to_all_who_watch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a bug, and nobody may wait for ever; who comes later tries again."""

    def broken(entry: Entry, *rest: object, **more: object) -> pb.WatchEnginesResponse:
        raise RuntimeError("a bug")

    async with Host() as host:
        watched = Board(host.scheduler)
        with watched.watched():
            with monkeypatch.context() as patched:
                patched.setattr("vllmd.api.convert.engine", broken)
                host.scheduler.engines.add(wish())
                async with asyncio.timeout(DEADLINE_SECONDS):
                    with pytest.raises(RuntimeError, match="a bug"):
                        await until(watched.changed, lambda: watched.marks is None)
        with watched.watched():
            assert len(shown(watched)) == 1
    assert "look at engines" in caplog.text
