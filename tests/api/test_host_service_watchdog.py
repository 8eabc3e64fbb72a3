"""`HostService`: who holds GPU memory, what a reclaim does about it, and what the daemon tells."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.foreign import Foreign
from tests.fakes.host import DEADLINE_SECONDS, Host, wish
from tests.fakes.processes import lives
from tests.fakes.served import reason_of, serving
from vllmd.events import KEPT, Kind
from vllmd.v1 import host_service_pb2 as pb
from vllmd.v1.gpu_pb2 import ProcessVerdict


async def responses(call: Any) -> list[pb.WatchEventsResponse]:
    """Read a stream to its end."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [response async for response in call]


async def test_processes_and_whose_they_are() -> None:
    """An engine's, a suspect's and a stranger's, with the policy that applies."""
    async with Host(gpu()) as host, serving(host) as served:
        entry, lease = await host.load(wish())
        pid = entry.supervisor.pid
        assert pid is not None
        with Foreign("serving", host.directory) as foreign:
            host.gpus.occupy("GPU-0", 30 * GIB, pid)
            host.gpus.occupy("GPU-0", 20 * GIB, foreign.worker.pid)
            answer = await served.host.ListGpuProcesses(pb.ListGpuProcessesRequest())
        host.gpus.set(gpu())
        await host.scheduler.settled(host.scheduler.release(lease.id))

        first, second = answer.processes[:2]
        assert (first.pid, first.verdict, first.engine) == (
            pid,
            ProcessVerdict.VERDICT_OWNED,
            f"engines/{entry.supervisor.id}",
        )
        assert first.shares[0].used_bytes == 30 * GIB
        assert (second.pid, second.verdict, second.doomed) == (
            foreign.worker.pid,
            ProcessVerdict.VERDICT_SUSPECT,
            False,
        )
        assert (answer.foreign_orphan_policy, answer.grace.seconds) == ("kill", 10)


async def test_a_reclaim_is_a_dry_run_until_it_is_confirmed() -> None:
    """What it would kill, then what it did, with the proof."""
    async with Host(gpu()) as host, serving(host) as served:
        with Foreign("serving", host.directory) as foreign:
            host.gpus.occupy("GPU-0", 20 * GIB, foreign.worker.pid)
            await served.host.ListGpuProcesses(pb.ListGpuProcessesRequest())
            foreign.lose_launcher()
            dry = await served.host.Reclaim(pb.ReclaimRequest(pid=foreign.core.pid))
            spared = lives(foreign.core)
            call = served.host.Reclaim(pb.ReclaimRequest(pid=foreign.core.pid, confirmed=True))
            await host.ground.events.changed.wait(DEADLINE_SECONDS)
            host.gpus.set(gpu())
            done = await call

            assert spared
            assert [process.pid for process in dry.processes] == [foreign.core.pid, foreign.worker.pid]
            assert all(process.doomed for process in dry.processes)
            assert len(dry.reports) == 0
            assert [process.pid for process in done.processes] == [foreign.core.pid, foreign.worker.pid]
            assert [report.verified for report in done.reports] == [True]
            assert not lives(foreign.core)


@pytest.mark.parametrize(("pid", "reason"), [(-1, "INVALID_FIELD"), (2**22 - 1, "PROCESS_NOT_FOUND")])
async def test_pids_that_are_none(pid: int, reason: str) -> None:
    """What can't be a process, and what is none that the watchdog knows."""
    async with Host(gpu()) as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.host.Reclaim(pb.ReclaimRequest(pid=pid))

    assert reason_of(refused.value) == reason


async def test_a_gpu_in_quarantine_says_so() -> None:
    """The status has the reason."""
    async with Host(gpu(0), gpu(1)) as host, serving(host) as served:
        host.quarantines.put("GPU-1", "a process is stuck", holder=4711)
        status = await served.host.GetStatus(pb.GetStatusRequest())

        assert [found.quarantine.reason for found in status.gpus] == ["", "a process is stuck"]


async def test_the_last_events() -> None:
    """As many as are asked for, or as there are, and then the end."""
    async with Host() as host, serving(host) as served:
        for number in range(500):
            host.ground.events.record(Kind.DAEMON, f"event {number}")
        few = await responses(served.host.WatchEvents(pb.WatchEventsRequest(last=3)))
        many = await responses(served.host.WatchEvents(pb.WatchEventsRequest(last=KEPT)))

        assert [event.message for event in few[0].events] == ["event 497", "event 498", "event 499"]
        assert [len(response.events) for response in many] == [200, 200, 100]
        assert sum(response.missed_count for response in many) == 0
        assert await responses(served.host.WatchEvents(pb.WatchEventsRequest())) == []


async def test_following_events() -> None:
    """New ones come as they happen, and those of the daemon's end are the last."""
    async with Host() as host, serving(host) as served:
        host.ground.events.record(Kind.DAEMON, "before")
        call = served.host.WatchEvents(pb.WatchEventsRequest(last=1, follow=True))
        first = await call.read()
        host.ground.events.record(Kind.DAEMON, "after")
        second = await call.read()
        await host.scheduler.drain(0.0, lambda: True)
        end = await call.read()

        assert isinstance(first, pb.WatchEventsResponse)
        assert isinstance(second, pb.WatchEventsResponse)
        assert [event.message for event in (*first.events, *second.events)] == ["before", "after"]
        assert end is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


async def test_who_reads_too_slowly_is_told_how_many_it_missed() -> None:
    """The oldest are gone; those that are left come in order."""
    async with Host() as host, serving(host) as served:
        host.ground.events.record(Kind.DAEMON, "first")
        call = served.host.WatchEvents(pb.WatchEventsRequest(last=1, follow=True))
        await call.read()
        for number in range(KEPT + 50):
            host.ground.events.record(Kind.DAEMON, f"event {number}")
        missed, received = 0, 0
        async with asyncio.timeout(DEADLINE_SECONDS):
            while missed + received < KEPT + 50:
                response = await call.read()
                assert isinstance(response, pb.WatchEventsResponse)
                missed += response.missed_count
                received += len(response.events)
        call.cancel()

        assert (missed, received) == (50, KEPT)


async def test_more_events_than_are_kept_are_refused() -> None:
    """Nobody is to think that there were no others."""
    async with Host() as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await responses(served.host.WatchEvents(pb.WatchEventsRequest(last=KEPT + 1)))

    assert reason_of(refused.value) == "INVALID_FIELD"
