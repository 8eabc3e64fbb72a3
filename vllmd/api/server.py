"""The gRPC servers: their sockets, health and reflection.

gRPC binds silently over a live Unix socket, takes its clients, and unlinks whatever is at the path when it
stops, a successor's socket included. So each socket is bound under a name of this process, given its mode,
and then renamed into place; who may do so is decided by a lock (`daemon.claim`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from vllmd.api.access import Role
from vllmd.api.callers import Caller
from vllmd.api.doors import Door
from vllmd.api.guard import Guard
from vllmd.api.limits import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES
from vllmd.api.port import Port
from vllmd.errors import NotPossible
from vllmd.v1 import engine_service_pb2, host_service_pb2
from vllmd.v1.engine_service_pb2_grpc import EngineServiceServicer, add_EngineServiceServicer_to_server
from vllmd.v1.host_service_pb2_grpc import HostServiceServicer, add_HostServiceServicer_to_server

SERVICES = (
    engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"].full_name,
    host_service_pb2.DESCRIPTOR.services_by_name["HostService"].full_name,
)
_MOST_PENDING = 100_000
_OPTIONS = (
    # Two daemons on one TCP port would share its connections at random.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
    # Beyond 1000 that nobody has taken yet, gRPC would refuse calls at random, by a bare CANCELLED.
    ("grpc.server.max_pending_requests", _MOST_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", 2 * _MOST_PENDING),
    # A client that waits for a long load may ping, without being taken for an attacker.
    ("grpc.http2.max_ping_strikes", 0),
)


class Health(health.aio.HealthServicer):
    """gRPC's own, but for `List`, which that has not got: it would write a traceback for whoever calls it."""

    async def List(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Say that there is no such method."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "List is not implemented: use Check.")


class Server:
    """The daemon's gRPC servers, which all serve the same: one a listener, as a call does not tell by which it came."""

    def __init__(self, engine_service: EngineServiceServicer, host_service: HostServiceServicer) -> None:
        self._engine_service = engine_service
        self._host_service = host_service
        self._health = Health()
        self._servers: list[grpc.aio.Server] = []
        self._sockets: list[pathlib.Path] = []

    async def start(self, doors: Sequence[Door], port: Port | None = None) -> None:
        """Serve on Unix sockets, and on TCP if a port is given; the last door is the last to be seen.

        Raises:
            NotPossible: an address can't be bound.
        """
        with contextlib.ExitStack() as undo:
            for door in doors:
                door.private.unlink(missing_ok=True)
                undo.callback(door.private.unlink, missing_ok=True)  # gRPC would leave it
                self._bind(_at_door(door), f"unix:{door.private}", str(door.path))
            if port is not None:
                self._bind(_at_port(port), port.address, port.address, port.credentials())
            for server in self._servers:
                await server.start()
            for door in doors:
                door.open()
            for door in doors:
                door.private.rename(door.path)
                self._sockets.append(door.path)
        await self.set_serving(True)

    def _bind(self, guard: Guard, address: str, shown: str, credentials: grpc.ServerCredentials | None = None) -> None:
        server = grpc.aio.server(options=_OPTIONS, interceptors=[guard])
        add_EngineServiceServicer_to_server(self._engine_service, server)
        add_HostServiceServicer_to_server(self._host_service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        try:
            with _closed_to_others():
                if credentials is None:
                    server.add_insecure_port(address)
                else:
                    server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise NotPossible("LISTEN_FAILED", f"{shown} can't be bound: {error}") from error
        self._servers.append(server)

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks whether to send work here."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Stop serving; calls still running get *grace* seconds."""
        for socket in reversed(self._sockets):
            socket.unlink(missing_ok=True)
        await asyncio.gather(*(server.stop(grace) for server in self._servers))


@contextlib.contextmanager
def _closed_to_others() -> Iterator[None]:
    """Make what is bound ours alone, whatever the umask: who connects before a door has its mode would stay."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _at_door(door: Door) -> Guard:
    return Guard(Caller(role=door.role, way=door.path.name), door.remedy)


def _at_port(port: Port) -> Guard:
    """Whoever comes by TCP is a user, unless a token says otherwise: any user of the host can come."""
    caller = Caller(role=Role.USER, way=port.address)
    if port.tokens is None:
        return Guard(caller, "Operators come by the daemon's admin.sock.")
    return Guard(caller, "Operators have a token of that role, or come by the daemon's admin.sock.", port.tokens)
