"""The gRPC server: its sockets, health and reflection.

gRPC binds silently over a live Unix socket, takes its clients, and unlinks whatever is at the path when it
stops, a successor's socket included. So the socket is bound under a name of this process, given its mode,
and then renamed into place; who may do so is decided by a lock (`daemon.claim`).
"""

from __future__ import annotations

import ipaddress
import os
import pathlib

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from vllmd.errors import NotPossible
from vllmd.v1 import engine_service_pb2, host_service_pb2
from vllmd.v1.engine_service_pb2_grpc import EngineServiceServicer, add_EngineServiceServicer_to_server
from vllmd.v1.host_service_pb2_grpc import HostServiceServicer, add_HostServiceServicer_to_server

SERVICES = (
    engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"].full_name,
    host_service_pb2.DESCRIPTOR.services_by_name["HostService"].full_name,
)
_MAX_REQUEST_BYTES = 16 << 20
"""Some millions of tokens: more than any model takes, and small enough to be held several times over."""

_MAX_RESPONSE_BYTES = 64 << 20
_OPTIONS = (
    # Two daemons on one TCP port would share its connections at random.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", _MAX_RESPONSE_BYTES),
    # A client that waits for a long load may ping, without being taken for an attacker.
    ("grpc.http2.max_ping_strikes", 0),
)


def check_listen(address: str) -> None:
    """Check that a TCP address is on loopback: anything else needs TLS, which is yet to come.

    Raises:
        NotPossible: it is not.
    """
    host, _, port = address.rpartition(":")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise NotPossible(
            "LISTEN_REFUSED",
            f"--listen {address} is refused: without TLS only loopback is, such as 127.0.0.1:8765.",
            address=address,
        )


class Server:
    """The daemon's gRPC server."""

    def __init__(self, engine_service: EngineServiceServicer, host_service: HostServiceServicer) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._socket: pathlib.Path | None = None
        add_EngineServiceServicer_to_server(engine_service, self._server)
        add_HostServiceServicer_to_server(host_service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self, socket: pathlib.Path, mode: int, listen: str | None) -> None:
        """Serve on a Unix socket, and on TCP if *listen* is given.

        Raises:
            NotPossible: an address can't be bound.
        """
        own = socket.with_name(f".{socket.name}.{os.getpid()}")
        own.unlink(missing_ok=True)
        try:
            self._server.add_insecure_port(f"unix:{own}")
            if listen is not None:
                check_listen(listen)
                self._server.add_insecure_port(listen)
        except RuntimeError as error:
            own.unlink(missing_ok=True)  # gRPC would leave it
            raise NotPossible("LISTEN_FAILED", f"{listen or socket} can't be bound: {error}") from error
        await self._server.start()
        own.chmod(mode)
        own.rename(socket)
        self._socket = socket
        await self.set_serving(True)

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks whether to send work here."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Stop serving; calls still running get *grace* seconds."""
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
        await self._server.stop(grace)
