from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.fakes.host import Host
from tests.fakes.served import connected, host_service_of, serving, watchdog_of
from vllmd.api.access import Role
from vllmd.api.doors import Door
from vllmd.api.engine_service import EngineService
from vllmd.api.port import Port
from vllmd.api.server import SERVICES, Server
from vllmd.errors import NotPossible
from vllmd.v1 import engine_service_pb2, host_service_pb2
from vllmd.v1.host_service_pb2_grpc import HostServiceStub


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[tuple[Server, Path]]:
    """A server that has not begun to serve, and a path for its socket."""
    async with Host() as host:
        watchdog = watchdog_of(host)
        directory = host.directory / "run"
        directory.mkdir()
        made = Server(EngineService(host.scheduler), host_service_of(host, watchdog))
        yield made, directory / "s"
        await made.stop(0)
        watchdog.close()
        assert list(directory.iterdir()) == []


def door(path: Path, role: Role = Role.OPERATOR, mode: int = 0o600) -> Door:
    """A socket that is to be served."""
    return Door(path=path, role=role, mode=mode, remedy="Use the other one.")


@contextlib.contextmanager
def bound_port() -> Iterator[int]:
    """A port of this host that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def health(channel: grpc.aio.Channel, service: str) -> str:
    """Ask how a service is."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def test_the_socket_has_its_mode_and_its_place() -> None:
    """It is bound under another name and moved into place, so nobody sees it with a wrong mode."""
    async with server() as (made, path):
        path.write_text("left by a daemon that was killed")
        await made.start([door(path, mode=0o660)])
        status = path.stat()
        names = [entry.name for entry in path.parent.iterdir()]
        async with connected(path) as channel:
            answer = await HostServiceStub(channel).GetStatus(host_service_pb2.GetStatusRequest())

        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert names == ["s"]
        assert answer.host.pid == os.getpid()


async def test_two_sockets_serve_the_same() -> None:
    """A lease that was got by one is good by the other; only who may what differs."""
    async with server() as (made, path):
        await made.start([door(path.with_name("a")), door(path, Role.USER)])
        seen = []
        for socket in (path.with_name("a"), path):
            async with connected(socket) as channel:
                answer = await HostServiceStub(channel).GetStatus(host_service_pb2.GetStatusRequest())
                seen.append(answer.host.pid)

        assert seen == [os.getpid()] * 2
        assert sorted(entry.name for entry in path.parent.iterdir()) == ["a", "s"]


async def test_a_socket_that_its_group_can_not_have_is_not_there() -> None:
    """Nor is the other one: a daemon that is half open helps nobody."""
    async with server() as (made, path):
        wrong = dataclasses.replace(door(path), group="no-such-group")
        with pytest.raises(NotPossible, match="no group no-such-group"):
            await made.start([door(path.with_name("a")), wrong])

        assert list(path.parent.iterdir()) == []


async def test_tcp_on_loopback() -> None:
    """The same services answer there."""
    with bound_port() as port:
        pass
    async with server() as (made, path):
        await made.start([door(path)], Port(f"127.0.0.1:{port}"))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = await HostServiceStub(channel).GetStatus(host_service_pb2.GetStatusRequest())

        assert answer.host.pid == os.getpid()


async def test_a_port_that_is_taken() -> None:
    """The daemon does not start, says which address it is about, and leaves nothing behind."""
    async with server() as (made, path):
        with bound_port() as port, pytest.raises(NotPossible, match=f"127.0.0.1:{port} can't be bound") as refused:
            await made.start([door(path)], Port(f"127.0.0.1:{port}"))

        assert refused.value.reason == "LISTEN_FAILED"
        assert not path.exists()


async def test_a_socket_path_that_is_too_long() -> None:
    """A path that does not fit into a socket's address is refused in words."""
    async with server() as (made, path):
        with pytest.raises(NotPossible, match="can't be bound"):
            await made.start([door(path.with_name("x" * 120))])


async def test_health_tells_whether_to_send_work() -> None:
    """Every service and the whole serve; while draining none does."""
    async with Host() as host, serving(host) as served:
        before = {await health(served.channel, name) for name in ("", *SERVICES)}
        await served.server.set_serving(False)
        draining = {await health(served.channel, name) for name in ("", *SERVICES)}

        assert before == {"SERVING"}
        assert draining == {"NOT_SERVING"}


async def test_thousands_of_calls_at_once_are_served() -> None:
    """gRPC's own limit of a thousand that nobody has taken yet would end some of them at random, with no reason."""
    async with Host() as host, serving(host) as served:
        request = engine_service_pb2.ListEnginesRequest()
        answers = await asyncio.gather(*(served.engines.ListEngines(request) for _ in range(3000)))

    assert len(answers) == 3000


async def test_reflection_lists_the_services() -> None:
    """grpcurl and its like find out by themselves what there is."""
    async with Host() as host, serving(host) as served:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(served.channel)  # type: ignore[arg-type]
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = await stub.ServerReflectionInfo(iter([question])).read()
        names = {service.name for service in answer.list_services_response.service}

        assert {"vllmd.v1.EngineService", "vllmd.v1.HostService", "grpc.health.v1.Health"} <= names


async def test_a_socket_is_closed_to_others_before_it_has_its_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask: gRPC accepts from the start, and who has connected by then would stay an operator."""
    seen: list[int] = []
    opening = Door.open

    def open_and_look(self: Door) -> None:
        seen.append(stat.S_IMODE(self.private.stat().st_mode))
        opening(self)

    monkeypatch.setattr(Door, "open", open_and_look)
    before = os.umask(0)
    try:
        async with server() as (made, path):
            await made.start([door(path)])
        after = os.umask(0)
    finally:
        os.umask(before)

    assert seen == [0o600]
    assert after == 0
