from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import grpc
import pytest

from tests.fakes.fake_gpus import GIB, gpu
from tests.fakes.host import Host, hanging, until, wish
from tests.fakes.profiles import info, key
from tests.fakes.served import Served, reason_of, serving
from vllmd.engines.restarts import Policy
from vllmd.engines.state import State
from vllmd.gpu import inventory
from vllmd.scheduler.entry import Entry
from vllmd.v1 import host_service_pb2 as pb
from vllmd.v1.engine_pb2 import Engine


async def tail(served: Served, name: str, lines: int | None = None, follow: bool = False) -> list[str]:
    """Read a log until the stream ends."""
    request = pb.TailLogsRequest(name=f"engines/{name}", lines=lines, follow=follow)
    return [line async for response in served.host.TailLogs(request) for line in response.lines]


def log_of(host: Host, entry: Entry) -> Path:
    path = entry.supervisor.log
    assert path is not None
    return path


def append(path: Path, *lines: str) -> None:
    """Write to a log as the engine does."""
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


async def test_the_status_shows_the_host() -> None:
    """Who serves, since when, on what, and why there is no GPU."""
    async with Host() as host, serving(host) as served:
        found = (await served.host.GetStatus(pb.GetStatusRequest())).host

        assert (found.hostname, found.pid, found.version) == (socket.gethostname(), os.getpid(), "1.2.3")
        assert (found.containment, found.engine_python) == ("session", "/opt/python")
        assert found.gpu_error == "no GPU in this test"
        assert 0 < found.memory_available_bytes <= found.memory_total_bytes
        assert not found.draining


async def test_the_status_ties_gpu_memory_to_engines() -> None:
    """Each GPU shows what NVML says, and whose engine each process is of."""
    async with Host(gpu(0), gpu(1)) as host, serving(host) as served:
        entry, lease = await host.load(wish(tensor_parallel_size=1))
        pid = entry.supervisor.pid
        assert pid is not None
        host.gpus.occupy("GPU-0", 10 * GIB, pid)
        host.gpus.occupy("GPU-1", 5 * GIB)
        status = await served.host.GetStatus(pb.GetStatusRequest())
        host.gpus.set(gpu(0))
        await host.scheduler.settled(host.scheduler.release(lease.id))

        assert [found.used_bytes for found in status.gpus] == [10 * GIB, 5 * GIB]
        assert [found.processes[0].engine for found in status.gpus] == [f"engines/{entry.supervisor.id}", ""]
        assert status.host.driver_version == "570.00"
        assert status.engines[0].lease_count == 1


async def test_the_status_tells_which_gpu_is_lost() -> None:
    """What the watchdog saw of it; it is no GPU among the others."""
    async with Host(gpu(0), gpu(1)) as host, serving(host) as served:
        await served.host.ListGpuProcesses(pb.ListGpuProcessesRequest())
        host.gpus.lose("GPU-0")
        await served.host.ListGpuProcesses(pb.ListGpuProcessesRequest())
        status = await served.host.GetStatus(pb.GetStatusRequest())

        assert [(lost.name, lost.reason) for lost in status.lost_gpus] == [("gpus/GPU-0", "NVML: GPU is lost")]
        assert [found.name for found in status.gpus] == ["gpus/GPU-1"]


async def test_the_gpus_and_how_they_are_connected() -> None:
    """With the engines on them, and what is lost."""
    async with Host(gpu(0), gpu(1), gpu(2)) as host, serving(host) as served:
        host.gpus.links = (inventory.GpuLink("GPU-1", "GPU-2", 4, inventory.Path.PIX, True),)
        entry, lease = await host.load(wish(tensor_parallel_size=1))
        pid = entry.supervisor.pid
        assert pid is not None
        host.gpus.occupy("GPU-1", 10 * GIB, pid)
        await served.host.ListGpuProcesses(pb.ListGpuProcessesRequest())
        host.gpus.lose("GPU-2")
        await served.host.ListGpuProcesses(pb.ListGpuProcessesRequest())
        found = await served.host.ListGpus(pb.ListGpusRequest())
        host.gpus.set(gpu(1))
        await host.scheduler.settled(host.scheduler.release(lease.id))

        assert [one.name for one in found.gpus] == ["gpus/GPU-0", "gpus/GPU-1"]
        assert found.gpus[1].processes[0].engine == f"engines/{entry.supervisor.id}"
        assert [(link.first_gpu, link.second_gpu, link.nvlink_count) for link in found.links] == [
            ("gpus/GPU-1", "gpus/GPU-2", 4)
        ]
        assert [lost.name for lost in found.lost_gpus] == ["gpus/GPU-2"]
        assert (found.driver_version, found.cuda_version, found.error) == ("570.00", "12.8", "")


async def test_why_there_are_no_gpus() -> None:
    """As in the status."""
    async with Host() as host, serving(host) as served:
        found = await served.host.ListGpus(pb.ListGpusRequest())

        assert (found.error, list(found.gpus)) == ("no GPU in this test", [])


async def test_the_status_leaves_out_what_ended_well() -> None:
    """Engines that failed stay to be seen; those that were stopped do not."""
    async with Host() as host, serving(host) as served:
        stopped, lease = await host.load(wish("fake/stopped"))
        await host.scheduler.settled(host.scheduler.release(lease.id))
        failed = host.scheduler.engines.add(wish("fake/failed", fake_fail_phase="importing"))
        await host.state(failed, State.FAILED)
        ready, _ = await host.load(wish("fake/ready"))
        status = await served.host.GetStatus(pb.GetStatusRequest())

        assert [engine.model for engine in status.engines] == ["fake/ready", "fake/failed"]
        assert status.engines[1].failure.reason == "ENGINE_START_FAILED"
        assert stopped.supervisor.state is State.STOPPED
        assert ready.supervisor.state is State.READY


async def test_the_status_says_that_the_daemon_drains() -> None:
    """An operator sees why no new work is taken."""
    async with Host() as host, serving(host) as served:
        await host.scheduler.drain(0.0, lambda: False)

        assert (await served.host.GetStatus(pb.GetStatusRequest())).host.draining


@pytest.mark.parametrize("force", [False, True])
async def test_stopping_answers_with_the_proof(force: bool) -> None:
    """An engine is stopped whoever has a lease on it, and the answer comes when it is gone."""
    async with Host() as host, serving(host) as served:
        entry, _ = await host.load(wish())
        request = pb.StopEngineRequest(name=f"engines/{entry.supervisor.id}", force=force)
        engine = (await served.host.StopEngine(request)).engine
        states = {transition.new_state for transition in engine.transitions}

        assert engine.state == Engine.STATE_STOPPED
        assert engine.reclaim.verified
        assert engine.lease_count == 0
        assert (Engine.STATE_STOPPING in states) != force


async def test_stopping_what_has_ended_answers_at_once() -> None:
    """The second of two operators gets the same answer."""
    async with Host() as host, serving(host) as served:
        entry, _ = await host.load(wish())
        request = pb.StopEngineRequest(name=f"engines/{entry.supervisor.id}")
        first, second = await served.host.StopEngine(request), await served.host.StopEngine(request)

        assert first.engine.reclaim == second.engine.reclaim


@pytest.mark.parametrize(("name", "reason"), [("engines/none", "ENGINE_NOT_FOUND"), ("none", "INVALID_NAME")])
async def test_names_of_no_engine_are_refused(name: str, reason: str) -> None:
    """By a unary method and by a streaming one."""
    async with Host() as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError) as stop:
            await served.host.StopEngine(pb.StopEngineRequest(name=name))
        with pytest.raises(grpc.aio.AioRpcError) as logs:
            await served.host.TailLogs(pb.TailLogsRequest(name=name)).read()

        assert [reason_of(error.value) for error in (stop, logs)] == [reason, reason]


async def test_the_last_lines_of_a_log() -> None:
    """As many as asked for, oldest first; 100 unless said otherwise, none if none are wanted."""
    async with Host() as host, serving(host) as served:
        entry, _ = await host.load(wish())
        append(log_of(host, entry), *(f"line {number}" for number in range(1200)))
        name = entry.supervisor.id

        assert await tail(served, name, 3) == ["line 1197", "line 1198", "line 1199"]
        assert await tail(served, name) == [f"line {number}" for number in range(1100, 1200)]
        assert await tail(served, name, 1100) == [f"line {number}" for number in range(100, 1200)]
        assert await tail(served, name, 0) == []


async def test_a_log_goes_on_after_a_restart() -> None:
    """Why the engine died stands in what it said before."""
    async with Host(restarts=Policy(limit=3, first_delay_seconds=0.0)) as host, serving(host) as served:
        entry, _ = await host.load(wish())
        append(log_of(host, entry), "last words")
        pid = entry.supervisor.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(host.scheduler.engines.changed, lambda: entry.supervisor.pid not in (pid, None))
        await host.state(entry, State.READY)
        lines = await tail(served, entry.supervisor.id, 1000)
        again = lines.index("── vllmd: the engine was started again ──")

        assert lines[again - 1] == "last words"
        assert lines[again + 1 :] == await tail(served, entry.supervisor.id, len(lines) - again - 1)
        assert len(lines) > again + 1


@pytest.mark.parametrize("lines", [-1, 10_001])
async def test_more_lines_than_are_kept_are_refused(lines: int) -> None:
    """A number out of range is the client's to mend."""
    async with Host() as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError, match="0 to 10000"):
            await tail(served, "none", lines)


async def test_following_a_log_ends_with_the_engine() -> None:
    """New lines come as they are written, and the stream ends when nothing more can come."""
    async with Host() as host, serving(host) as served:
        entry, _ = await host.load(wish())
        request = pb.TailLogsRequest(name=f"engines/{entry.supervisor.id}", lines=1, follow=True)
        call = served.host.TailLogs(request)
        await call.read()
        append(log_of(host, entry), "new")
        new = await call.read()
        entry.supervisor.stop("a test stops it", force=True)
        end = await call.read()

        assert isinstance(new, pb.TailLogsResponse)
        assert list(new.lines) == ["new"]
        assert end is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


async def test_following_waits_for_an_engine_that_waits() -> None:
    """An engine that has no processes yet has no log either; following it is not over for that."""
    async with Host(gpu()) as host, serving(host) as served, host.starting(hanging("fake/first")) as first:
        with host.scheduler.loading(wish("fake/second", gpu_memory_utilization=0.1)) as second:
            request = pb.TailLogsRequest(name=f"engines/{second.supervisor.id}", follow=True)
            call = served.host.TailLogs(request)
            await served.host.GetStatus(pb.GetStatusRequest())  # by its answer the call before it has arrived too
            pending = second.supervisor.state
            first.supervisor.stop("a test stops it", force=True)
            lines = await call.read()

        assert pending is State.PENDING
        assert isinstance(lines, pb.TailLogsResponse)
        assert lines.lines


async def test_the_log_of_an_engine_that_ended() -> None:
    """Its files are gone, and its last lines are kept; following them ends at once."""
    async with Host() as host, serving(host) as served:
        entry = host.scheduler.engines.add(wish(fake_fail_phase="profiling", fake_error="ValueError: too bad"))
        await host.state(entry, State.FAILED)
        lines = await tail(served, entry.supervisor.id, follow=True)
        last = await tail(served, entry.supervisor.id, 2)

        assert any("ValueError: too bad" in line for line in lines)
        assert last == lines[-2:]
        assert not (host.ground.root / entry.supervisor.id).exists()


async def test_what_loads_took_is_listed_and_forgotten() -> None:
    """The newest first; of one model or of all."""
    async with Host() as host, serving(host) as served:
        for model, fingerprint in (("a", "f1"), ("b", "f2"), ("a", "f3")):
            host.ground.profiles.learn(model, key(fingerprint), info(), None)
        of_all = await served.host.ListProfiles(pb.ListProfilesRequest())
        of_one = await served.host.ListProfiles(pb.ListProfilesRequest(model="a"))
        forgotten = await served.host.ForgetProfiles(pb.ForgetProfilesRequest(model="a"))
        left = await served.host.ListProfiles(pb.ListProfilesRequest())

        assert [one.fingerprint for one in of_all.profiles] == ["f3", "f2", "f1"]
        assert [one.fingerprint for one in of_one.profiles] == ["f3", "f1"]
        assert forgotten.forgotten_count == 2
        assert [one.model for one in left.profiles] == ["b"]
