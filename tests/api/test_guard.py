from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.fakes.fake_gpus import gpu
from tests.fakes.host import QUICK, Host, eventually
from tests.fakes.served import connected, details_of, host_service_of, reason_of, serving, status_of, watchdog_of
from vllmd.api.access import Role
from vllmd.api.doors import Door
from vllmd.api.engine_service import EngineService
from vllmd.api.server import Server
from vllmd.events import Kind
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import host_service_pb2
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub
from vllmd.v1.host_service_pb2_grpc import HostServiceStub


@contextlib.asynccontextmanager
async def as_user(host: Host) -> AsyncIterator[grpc.aio.Channel]:
    """Serve users by a socket, and connect to it."""
    watchdog = watchdog_of(host)
    server = Server(EngineService(host.scheduler), host_service_of(host, watchdog))
    await server.start([Door(path=host.directory / "u", role=Role.USER, mode=0o600, remedy="Use the other.")])
    try:
        async with connected(host.directory / "u") as channel:
            yield channel
    finally:
        await server.stop(0)
        watchdog.close()


def audited(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the audit says, without how long things took."""
    lines = [record.getMessage() for record in caplog.records if record.name == "vllmd.audit"]
    return [line.partition(" after ")[0] for line in lines]


async def test_a_user_is_denied_what_is_for_operators(caplog: pytest.LogCaptureFixture) -> None:
    """With what to do, before the daemon does anything; and it is written down."""
    async with Host() as host, as_user(host) as channel:
        stub: Any = HostServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await stub.StopEngine(host_service_pb2.StopEngineRequest(name="engines/a"))
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            await stub.TailLogs(host_service_pb2.TailLogsRequest(name="engines/a")).read()

        for denied in (unary.value, stream.value):
            assert denied.code() is grpc.StatusCode.PERMISSION_DENIED
            assert reason_of(denied) == "OPERATOR_NEEDED"
            assert "who comes by u is a user. Use the other." in status_of(denied).message
            assert set(details_of(status_of(denied))) == {"ErrorInfo"}
        assert audited(caplog) == [
            'StopEngine name="engines/a", user by u: OPERATOR_NEEDED',
            'TailLogs name="engines/a", user by u: OPERATOR_NEEDED',
        ]


async def test_a_user_uses(caplog: pytest.LogCaptureFixture) -> None:
    """Models and generations are nobody's business, so no line tells of them."""
    async with Host() as host, as_user(host) as channel:
        stub: Any = EngineServiceStub(channel)
        answer = await stub.ListEngines(pb.ListEnginesRequest())

        assert list(answer.engines) == []
        assert audited(caplog) == []


async def test_a_user_reads_no_log_by_the_way_of_a_failure() -> None:
    """Engines are shared, and the end of a log may quote what somebody else asked."""
    async with Host(gpu()) as host, as_user(host) as channel, serving(host) as served:
        request = pb.LoadModelRequest(model="m")
        request.engine_args.update(QUICK | {"fake_fail_phase": "compiling", "fake_error": "ValueError: a prompt"})
        stub: Any = EngineServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            _ = [response async for response in stub.LoadModel(request)]
        with pytest.raises(grpc.aio.AioRpcError) as shown:
            _ = [response async for response in served.engines.LoadModel(request)]
        (name, *_) = [engine.name for engine in (await stub.ListEngines(pb.ListEnginesRequest())).engines]
        of_user = (await stub.GetEngine(pb.GetEngineRequest(name=name))).engine.failure
        of_operator = (await EngineServiceStub(served.channel).GetEngine(pb.GetEngineRequest(name=name))).engine.failure

        assert "DebugInfo" not in details_of(status_of(failed.value))
        assert "DebugInfo" in details_of(status_of(shown.value))
        assert of_user.message == of_operator.message
        assert (list(of_user.log_lines), bool(of_operator.log_lines)) == ([], True)


async def test_what_an_operator_does_is_written_down(caplog: pytest.LogCaptureFixture) -> None:
    """With how it ended: well, or with which code."""
    async with Host() as host, serving(host) as served:
        loaded = await served.load()
        await served.host.StopEngine(host_service_pb2.StopEngineRequest(name=loaded.engine.name, force=True))
        with pytest.raises(grpc.aio.AioRpcError):
            await served.host.StopEngine(host_service_pb2.StopEngineRequest(name="engines/none"))
        await served.host.GetStatus(host_service_pb2.GetStatusRequest())
        await eventually(lambda: len(audited(caplog)) == 2)  # the client hears of it first

        assert audited(caplog) == [
            f'StopEngine name="{loaded.engine.name}" force=true, operator by s: OK',
            'StopEngine name="engines/none", operator by s: NOT_FOUND',
        ]


async def test_a_stream_is_written_down_as_it_begins_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    """One that follows may last for days, and ends when its client goes."""
    async with Host() as host, serving(host) as served:
        await served.host.WatchEvents(host_service_pb2.WatchEventsRequest(last=1)).read()
        call = served.host.WatchEvents(host_service_pb2.WatchEventsRequest(follow=True))
        host.ground.events.record(Kind.DAEMON, "something")
        await eventually(lambda: len(audited(caplog)) == 3)
        call.cancel()
        await eventually(lambda: len(audited(caplog)) == 4)

        about = "WatchEvents follow=true, operator by s"
        assert audited(caplog)[:2] == ["WatchEvents, operator by s: begun", "WatchEvents, operator by s: OK"]
        assert audited(caplog)[2:] == [f"{about}: begun", f"{about}: CANCELLED"]


async def test_a_stream_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Its code is told like that of any other call."""
    async with Host() as host, serving(host) as served:
        with pytest.raises(grpc.aio.AioRpcError):
            await served.host.TailLogs(host_service_pb2.TailLogsRequest(name="engines/none")).read()
        await eventually(lambda: len(audited(caplog)) == 2)  # the client hears of it first

        assert audited(caplog)[-1] == 'TailLogs name="engines/none", operator by s: NOT_FOUND'


async def test_a_method_that_is_none() -> None:
    """Is no secret of anybody's."""
    async with Host() as host, as_user(host) as channel:
        call: Any = channel.unary_unary("/vllmd.v1.HostService/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await call(b"")

        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
