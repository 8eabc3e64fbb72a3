"""A real vLLM that somebody else started: it is left alone for as long as anybody uses it, and not a moment longer."""

from __future__ import annotations

import contextlib
import pathlib
import socket

import grpc
import pytest

from tests.host.foreign import ForeignServer
from tests.host.running import RunningDaemon, until
from tests.real.conftest import ENGINE_ARGS, LOAD_SECONDS
from vllmd.v1.gpu_pb2 import ProcessVerdict
from vllmd.v1.host_service_pb2 import ListGpuProcessesRequest, ReclaimRequest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(LOAD_SECONDS + 100)]


def verdict_on(daemon: RunningDaemon, pid: int) -> ProcessVerdict:
    """What the watchdog thinks of a process."""
    processes = daemon.host.ListGpuProcesses(ListGpuProcessesRequest()).processes
    return next(one for one in processes if one.pid == pid)


def test_its_core_is_reclaimed_once_it_was_killed(
    daemon: RunningDaemon, engine_python: str, model: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """vLLM's EngineCore outlives its server's SIGKILL; asking for it before that changes nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ForeignServer(engine_python, str(model), tmp_path / "log", port, ENGINE_ARGS, {})
    with contextlib.closing(server):
        server.wait_ready()
        core = server.core
        assert core is not None
        before = verdict_on(daemon, core.pid)
        with pytest.raises(grpc.RpcError, match="is SUSPECT and is left alone"):
            daemon.host.Reclaim(ReclaimRequest(confirmed=True, pid=core.pid), timeout=60)
        answer = server.complete()
        server.kill()
        # It holds no GPU's memory here, so that it is not killed unasked.
        until(lambda: verdict_on(daemon, core.pid).verdict == ProcessVerdict.VERDICT_FOREIGN_ORPHAN, "the verdict")
        alive = server.core_alive
        (report,) = daemon.host.Reclaim(ReclaimRequest(confirmed=True, pid=core.pid), timeout=60).reports

        assert before.verdict == ProcessVerdict.VERDICT_SUSPECT
        assert answer
        assert alive
        assert report.verified
        assert core.pid in report.pids
        assert not server.core_alive
